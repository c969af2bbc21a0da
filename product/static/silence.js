// Says where our server does not answer, and takes that back with its next answer. What looks again by itself keeps on
// showing what it knew; to it an error of ours is no answer either. A form shows such an error in its own place.
const silence = document.getElementById("silence");
let heard = new Date();
const isForm = ({ sourceElement }) => sourceElement.matches("form");
const unanswered = (ctx) => {
  const said = isForm(ctx) ? "No answer. Please try again in a moment." : `No answer since ${heard.toLocaleTimeString("en-GB")} on your clock; trying again.`;
  if (silence.textContent !== said) silence.textContent = said; // said anew, it would be read out anew
};
document.addEventListener("htmx:before:request", ({ detail: { ctx } }) => {
  if (isForm(ctx)) silence.textContent = "";
});
document.addEventListener("htmx:error", ({ detail: { ctx } }) => {
  if (ctx && ctx.text === undefined) unanswered(ctx);
});
document.addEventListener("htmx:after:request", ({ detail: { ctx } }) => {
  if (ctx.response.status >= 500 && !isForm(ctx)) return unanswered(ctx);
  heard = new Date();
  silence.textContent = "";
});
