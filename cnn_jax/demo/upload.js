// Brings pictures onto the page: from a file, by drag and drop, or from the clipboard.

/**
 * Calls a function with each picture file that people give to the page.
 *
 * @param {HTMLInputElement} input Of a file.
 * @param {HTMLElement} target Is marked while a file is dragged over the page.
 * @param {(file: File) => void} onFile
 */
export function receiveFiles(input, target, onFile) {
  /** @param {FileList | undefined} files */
  const receive = (files) => {
    if (files?.length) {
      onFile(files[0]);
    }
  };
  input.addEventListener("change", () => {
    receive(input.files ?? undefined);
    input.value = ""; // The same file may be chosen again.
  });
  document.addEventListener("paste", (event) => receive(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    target.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) {
      target.classList.remove("over");
    }
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("over");
    receive(event.dataTransfer?.files);
  });
}
