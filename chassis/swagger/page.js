// The description is this service's own. Nobody else is asked for anything: no validator, no fonts.
const ui = SwaggerUIBundle({
  url: "../openapi.json",
  dom_id: "#api",
  deepLinking: true,
  validatorUrl: null,
  onComplete: () => {
    document.title = `${ui.specSelectors.info().get("title")}: API`;
  },
});
