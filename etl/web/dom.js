// Makes elements. Whatever is text stays text: nothing here, or elsewhere, reads HTML.

export const find = (id) => document.getElementById(id);

/** An element; attributes that are null or false are left out, `onclick` is listened to. */
export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

/** Replaces the children of an element. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
}

/** Announces a text to screen readers, if it is new. */
export function announce(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function present(children) {
  return children
    .flat()
    .filter((child) => child !== null && child !== undefined && child !== false);
}
