// Files that are dropped anywhere on the page; what they are for is not known here.
import { find } from "./dom.js";

/** `take` gets the files and the names of folders that are dropped; `invitation` says what
    may be dropped, as {text, isRefused}. */
export function dropZone({ take, invitation }) {
  const zone = find("drop");

  const show = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // else the browser opens the file
    const { text, isRefused } = invitation();
    event.dataTransfer.dropEffect = isRefused ? "none" : "copy";
    zone.firstElementChild.textContent = text;
    zone.classList.toggle("refused", isRefused);
    zone.hidden = false;
  };
  addEventListener("dragenter", show);
  addEventListener("dragover", show);
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) zone.hidden = true; // it has left the window
  });
  // None moves while something is dragged: a drag has ended that reported nothing.
  addEventListener("mousemove", () => (zone.hidden = true));
  addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    zone.hidden = true;
    const folders = foldersIn(event.dataTransfer);
    take(
      [...event.dataTransfer.files].filter((file) => !folders.includes(file.name)),
      folders,
    );
  });
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

const foldersIn = (transfer) =>
  [...transfer.items]
    .map((item) => item.webkitGetAsEntry?.())
    .filter((entry) => entry?.isDirectory)
    .map((entry) => entry.name);
