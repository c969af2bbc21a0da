// The table is the content. The slider picks one of its rows and tells it in words and in the picture.
const slider = document.getElementById("level");
if (slider) {
  const rows = [...document.querySelectorAll("#levels tbody tr")];
  const [said, cost, kept, point, guides] = ["said", "cost", "kept", "point", "guides"].map((id) => document.getElementById(id));
  const show = () => {
    const row = rows[slider.valueAsNumber];
    const { x, y } = row.dataset;
    rows.forEach((other) => other.removeAttribute("aria-current"));
    row.setAttribute("aria-current", "true");
    said.textContent = row.dataset.said;
    cost.textContent = row.dataset.cost;
    kept.textContent = row.dataset.kept;
    kept.className = row.querySelector(".verdict").classList.contains("green") ? "green" : "red";
    slider.setAttribute("aria-valuetext", row.dataset.said);
    point.setAttribute("cx", x);
    point.setAttribute("cy", y);
    guides.setAttribute("d", `M0 ${y}H${x}V${guides.dataset.bottom}`);
  };
  slider.addEventListener("input", show);
  document.getElementById("today").addEventListener("click", () => {
    slider.value = slider.defaultValue;
    show();
  });
  document.getElementById("control").hidden = false;
  document.getElementById("no-slider").hidden = true;
  show();
}
