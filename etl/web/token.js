// The token that the API may ask for: asked once, kept in this tab.
import { find } from "./dom.js";

const STORED = "token";
let asking = null;

export const token = () => sessionStorage.getItem(STORED);

/** What there is to say where there is still none. */
export const NO_TOKEN = "This needs a valid token. Try again, or reload the page.";

const FIRST = "This needs a token. Whoever runs this service can give you one.";
const ANOTHER = "The service does not accept this token for that. Enter another one.";

/** Asks for a token; true once there is another one, false if there will be none. */
export function askForToken() {
  asking ??= ask().finally(() => (asking = null));
  return asking;
}

function ask() {
  const dialog = find("token");
  const value = find("token-value");
  find("token-message").textContent = token() ? ANOTHER : FIRST;
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
