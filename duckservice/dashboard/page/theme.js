// Light or dark, before the first pixel: a classic script, so that nothing flashes.
(function () {
  const root = document.documentElement;
  function read() {
    try {
      return localStorage.getItem("duck-theme");
    } catch {
      return null; // storage may be forbidden; then the system decides
    }
  }
  function apply(choice) {
    if (choice === "light" || choice === "dark") root.dataset.theme = choice;
    else delete root.dataset.theme;
  }
  apply(read());
  window.duckTheme = {
    /** Return "light", "dark", or "system". */
    choice: () => root.dataset.theme ?? "system",
    /** Choose, remember, and tell whoever draws with colours. */
    choose(choice) {
      apply(choice);
      try {
        if (choice === "system") localStorage.removeItem("duck-theme");
        else localStorage.setItem("duck-theme", choice);
      } catch {
        // It then holds until the page is closed.
      }
      window.dispatchEvent(new Event("duck-theme"));
    },
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
    window.dispatchEvent(new Event("duck-theme")),
  );
})();
