// The map mirrors the two lists: a click chooses the pickup, the next one the destination, a third starts again.
const map = document.querySelector(".map svg");
if (map) {
  const [pickup, dropoff] = ["pickup", "dropoff"].map((id) => document.getElementById(id));
  const zone = (list) => list.value && map.querySelector(`[data-zone="${list.value}"]`);
  const draw = () => {
    map.querySelectorAll("polygon").forEach((area) => area.classList.remove("from", "to"));
    const [from, to] = [zone(pickup), zone(dropoff)];
    if (from) from.classList.add("from");
    if (to) to.classList.add("to");
    document.getElementById("way").setAttribute("d", from && to ? `M${from.dataset.x} ${from.dataset.y}L${to.dataset.x} ${to.dataset.y}` : "");
  };
  map.addEventListener("click", ({ target }) => {
    if (!target.dataset.zone) return;
    if (pickup.value && !dropoff.value) dropoff.value = target.dataset.zone;
    else [pickup.value, dropoff.value] = [target.dataset.zone, ""];
    dropoff.dispatchEvent(new Event("input", { bubbles: true })); // by itself a value set by script tells nobody
    draw();
  });
  [pickup, dropoff].forEach((list) => list.addEventListener("change", draw));
  draw();
}
