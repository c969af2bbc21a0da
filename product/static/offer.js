// An offer is for what the form asks: once that changes, it goes, and one on its way never comes.
const offer = document.getElementById("offer");
if (offer) {
  const form = offer.previousElementSibling;
  form.addEventListener("input", () => {
    form.dispatchEvent(new Event("htmx:abort"));
    offer.replaceChildren();
  });
}
