// The theme before the first paint: the reader's choice if there is one, else the system's.
// Loaded in the head and not deferred, so that a dark page never flashes white.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");
  try {
    const chosen = localStorage.getItem("neuralake-theme");
    if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;
  } catch {
    // Storage may be closed to pages from a folder; then the choice lasts for the page.
  }
})();
