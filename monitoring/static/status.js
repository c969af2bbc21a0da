// Renews the status page in place. What did not change is left alone: so focus and scroll position stay where they are,
// and a live region is read out only when it says something new.
const EVERY_MS = 3000;
const PATIENCE_MS = 10000;
let heard = new Date();

const renew = (old, fresh) => {
  if (old.isEqualNode(fresh)) return;
  const [whose, whoseNow] = [old, fresh].map((node) => `${node.nodeName} ${node.getAttribute?.("href")}`);
  if (whose !== whoseNow) return old.replaceWith(fresh); // a link to something else is another link
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) old.setAttribute(name, value);
  const [parts, freshParts] = [[...old.childNodes], [...fresh.childNodes]];
  const hasFocus = old !== document.activeElement && old.contains(document.activeElement);
  if (parts.length === freshParts.length) parts.forEach((part, place) => renew(part, freshParts[place]));
  else if (!hasFocus) old.replaceChildren(...freshParts);
};

const look = async () => {
  const answer = fetch("/", { signal: AbortSignal.timeout(PATIENCE_MS) });
  const page = await answer.then((got) => (got.ok ? got.text() : null)).catch(() => null);
  if (page === null) {
    const silence = document.getElementById("silence"); // the next answer comes without this text, and so takes it back
    const said = `No answer since ${heard.toLocaleTimeString("en-GB")} on your clock; trying again. What stands here is from then.`;
    if (silence.textContent !== said) silence.textContent = said; // said anew, it would be read out anew
  } else {
    heard = new Date();
    renew(document.getElementById("main"), new DOMParser().parseFromString(page, "text/html").getElementById("main"));
  }
};

const keepLooking = async () => {
  try {
    if (!document.hidden) await look();
  } finally {
    setTimeout(keepLooking, EVERY_MS);
  }
};
setTimeout(keepLooking, EVERY_MS);
