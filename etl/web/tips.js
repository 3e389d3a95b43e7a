// The description of what is pointed at or focused; Escape puts it away.
import { find } from "./dom.js";

export function tips() {
  const tip = find("tip");
  const hide = () => (tip.hidden = true);

  function show(event) {
    const target = event.target.closest?.("[data-tip]");
    if (!target) return event.target !== tip && hide();
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    const place = target.getBoundingClientRect();
    const most = document.documentElement.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(8, Math.min(place.left, most))}px`;
    // Without a gap, so that the pointer can go on to it; below where there is no room.
    const above = place.top - tip.offsetHeight;
    tip.style.top = `${above < 0 ? place.bottom : above}px`;
  }

  addEventListener("mouseover", show);
  addEventListener("focusin", show);
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("scroll", hide, { capture: true, passive: true });
}
