// The token that the API may ask for: asked once, kept in this tab.
import { find } from "./dom.js";
import { sentence } from "./format.js";

const STORED = "token";
let asking = null;

export const token = () => sessionStorage.getItem(STORED);

/** Asks for a token; true once there is another one, false if there will be none. */
export function askForToken(message) {
  asking ??= ask(message).finally(() => (asking = null));
  return asking;
}

function ask(message) {
  const dialog = find("token");
  const value = find("token-value");
  find("token-message").textContent = sentence(message);
  value.value = "";
  return new Promise((resolve) => {
    const said = new AbortController();
    const listen = { signal: said.signal };
    const end = (answer) => {
      said.abort();
      dialog.close();
      resolve(answer);
    };
    dialog.querySelector("form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        sessionStorage.setItem(STORED, value.value.trim());
        end(true);
      },
      listen,
    );
    find("token-no").addEventListener("click", () => end(false), listen);
    dialog.addEventListener("cancel", () => end(false), listen);
    dialog.showModal();
  });
}
