// What a page does besides search: theme button, code tabs, copy buttons, times, remembered tab.
(() => {
  "use strict";
  const root = document.documentElement;
  const announce = (text) => {
    document.getElementById("announce").textContent = text;
  };
  const remember = (key, value) => {
    try {
      localStorage.setItem(key, value);
    } catch {
      // Closed storage costs the reader a click next time, nothing more.
    }
  };
  const recall = (key) => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  };

  // --- theme -----------------------------------------------------------------------------
  const systemDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (systemDark.matches ? "dark" : "light")) === "dark";
  const themeButton = document.querySelector(".theme-toggle");
  const labelTheme = () =>
    themeButton.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} theme`);
  themeButton.hidden = false;
  labelTheme();
  systemDark.addEventListener("change", labelTheme);
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    remember("neuralake-theme", root.dataset.theme);
    labelTheme();
  });

  // --- times -----------------------------------------------------------------------------
  // The page is as old as its build, so "3 minutes ago" can only be said by the reader's clock.
  const steps = [
    ["second", 60],
    ["minute", 60],
    ["hour", 24],
    ["day", 30],
    ["month", 12],
    ["year", Infinity],
  ];
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  const ago = (time) => {
    let amount = (Date.now() - time) / 1000;
    if (amount < 45 && amount > -45) return "just now";
    for (const [unit, size] of steps) {
      if (Math.abs(amount) < size) return words.format(-Math.round(amount), unit);
      amount /= size;
    }
    return "";
  };
  const times = [...document.querySelectorAll("time[datetime]")];
  for (const time of times) time.title = time.textContent;
  const tellTimes = () => {
    for (const time of times) time.textContent = ago(Date.parse(time.dateTime));
  };
  tellTimes();
  setInterval(tellTimes, 30_000);
  const exact = () => times.forEach((time) => (time.textContent = time.title));
  window.addEventListener("beforeprint", exact);
  window.addEventListener("afterprint", tellTimes);

  // --- tabs ------------------------------------------------------------------------------
  for (const box of document.querySelectorAll("[data-tabs]")) {
    const panels = [...box.querySelectorAll(".panel")];
    const list = document.createElement("div");
    list.className = "tablist";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Language");
    const select = (chosen, { focus = false, keep = false } = {}) => {
      tabs.forEach((tab, at) => {
        const is = at === chosen;
        tab.setAttribute("aria-selected", String(is));
        tab.tabIndex = is ? 0 : -1;
        panels[at].hidden = !is;
        if (is && focus) tab.focus();
      });
      // On a phone the row of tabs is longer than the screen.
      list.scrollLeft = tabs[chosen].offsetLeft - list.offsetLeft - 16;
      if (keep) remember("neuralake-tab", panels[chosen].id);
    };
    const tabs = panels.map((panel, at) => {
      const tab = document.createElement("button");
      tab.type = "button";
      tab.className = "tab";
      tab.id = `tab-${panel.id}`;
      tab.textContent = panel.dataset.title;
      tab.setAttribute("role", "tab");
      tab.setAttribute("aria-controls", panel.id);
      panel.setAttribute("role", "tabpanel");
      panel.setAttribute("aria-labelledby", tab.id);
      tab.addEventListener("click", () => select(at, { keep: true }));
      return tab;
    });
    list.addEventListener("keydown", (event) => {
      const now = tabs.indexOf(document.activeElement);
      const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: -1 }[event.key];
      if (next === undefined || now < 0) return;
      event.preventDefault();
      select((next + tabs.length) % tabs.length, { focus: true, keep: true });
    });
    list.append(...tabs);
    box.prepend(list);
    box.classList.add("has-tabs");
    select(Math.max(0, panels.findIndex((panel) => panel.id === recall("neuralake-tab"))));
  }

  // --- copy ------------------------------------------------------------------------------
  const copyOldWay = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("The browser does not let this page copy.");
  };
  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // No permission, or no clipboard for pages that are not served over https.
      copyOldWay(text);
    }
  };
  for (const button of document.querySelectorAll(".copy")) {
    const label = button.querySelector("span");
    button.addEventListener("click", async () => {
      try {
        await copy(button.parentElement.querySelector("code").textContent);
        label.textContent = "Copied";
        button.classList.add("is-done");
        announce("Copied to the clipboard");
      } catch {
        label.textContent = "Press Ctrl+C";
        window.getSelection().selectAllChildren(button.parentElement.querySelector("code"));
      }
      button.focus();
      setTimeout(() => {
        label.textContent = "Copy";
        button.classList.remove("is-done");
      }, 1800);
    });
  }
})();
