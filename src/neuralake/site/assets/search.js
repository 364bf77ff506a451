// Search over the inline catalog: no request, so it works from a folder.
// On the index it filters the list in place; on other pages it opens a list of results.
(() => {
  "use strict";
  const RESULTS_MAX = 12;
  const entries = (window.neuralakeCatalog ?? []).map((entry) => ({
    ...entry,
    low: {
      name: entry.name.toLowerCase(),
      database: entry.database.toLowerCase(),
      path: `${entry.database}.${entry.name}`.toLowerCase(),
      tags: entry.tags.map((tag) => tag.toLowerCase()),
      columns: entry.columns.map((column) => column.toLowerCase()),
      rest: `${entry.about} ${entry.owner} ${entry.kind}`.toLowerCase(),
    },
  }));
  const input = document.getElementById("search");
  if (!input) return;
  const announce = (text) => {
    document.getElementById("announce").textContent = text;
  };

  // --- ranking ---------------------------------------------------------------------------
  const wordsOf = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const scoreWord = ({ low }, word) => {
    if (low.name === word || low.path === word) return 100;
    if (low.name.startsWith(word)) return 80;
    if (low.name.includes(word)) return 60;
    if (low.path.includes(word)) return 50;
    if (low.tags.some((tag) => tag.startsWith(word))) return 45;
    if (low.columns.includes(word)) return 40;
    if (low.columns.some((column) => column.includes(word))) return 30;
    if (low.tags.some((tag) => tag.includes(word))) return 25;
    if (low.rest.includes(word)) return 10;
    return 0;
  };
  // Every word must be somewhere; a deprecated table comes after its equals.
  const score = (entry, words) => {
    let sum = entry.deprecated ? -5 : 0;
    for (const word of words) {
      const found = scoreWord(entry, word);
      if (found === 0) return 0;
      sum += found;
    }
    return Math.max(sum, 1);
  };
  const find = (text) => {
    const words = wordsOf(text);
    if (words.length === 0) return [];
    return entries
      .map((entry) => ({ entry, score: score(entry, words), words }))
      .filter((hit) => hit.score > 0)
      .sort((a, b) => b.score - a.score || a.entry.low.path.localeCompare(b.entry.low.path));
  };

  // --- keys that work everywhere -----------------------------------------------------------
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    const isTyping = at.isContentEditable || /^(input|textarea|select)$/i.test(at.tagName);
    const isSlash = event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey;
    const isPalette = event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey);
    if ((isSlash && !event.altKey) || isPalette) {
      event.preventDefault();
      input.focus();
      input.select();
    }
  });

  // Text with the found words marked; built from nodes, so names are never read as HTML.
  const marked = (text, words) => {
    const low = text.toLowerCase();
    const parts = document.createDocumentFragment();
    let at = 0;
    while (at < text.length) {
      const hits = words
        .map((word) => ({ word, start: low.indexOf(word, at) }))
        .filter((hit) => hit.start >= 0)
        .sort((a, b) => a.start - b.start || b.word.length - a.word.length);
      if (hits.length === 0) break;
      const { word, start } = hits[0];
      parts.append(text.slice(at, start));
      const mark = document.createElement("mark");
      mark.textContent = text.slice(start, start + word.length);
      parts.append(mark);
      at = start + word.length;
    }
    parts.append(text.slice(at));
    return parts;
  };

  if (document.getElementById("nothing")) filterInPlace();
  else listResults();

  // --- index: filter the list --------------------------------------------------------------
  function filterInPlace() {
    const rows = [...document.querySelectorAll("[data-entry]")];
    const chips = [...document.querySelectorAll("[data-filter]")];
    const nothing = document.getElementById("nothing");
    const byKey = new Map(entries.map((entry) => [entry.key, entry]));
    const chosen = (kind) =>
      chips
        .filter((chip) => chip.dataset.filter === kind && chip.getAttribute("aria-pressed") === "true")
        .map((chip) => chip.dataset.value);
    const links = () =>
      rows.filter((row) => row.offsetParent !== null).map((row) => row.querySelector("a"));

    const update = () => {
      const words = wordsOf(input.value);
      const databases = chosen("database");
      const tags = chosen("tag");
      let shown = 0;
      for (const row of rows) {
        const entry = byKey.get(row.dataset.entry);
        const is =
          (words.length === 0 || score(entry, words) > 0) &&
          (databases.length === 0 || databases.includes(entry.database)) &&
          tags.every((tag) => entry.tags.includes(tag));
        row.hidden = !is;
        shown += is ? 1 : 0;
        const name = row.querySelector(".table-name");
        name.replaceChildren(marked(entry.name, words));
        showColumns(row, entry, words);
      }
      const isFiltered = words.length + databases.length + tags.length > 0;
      for (const section of document.querySelectorAll(".database")) {
        const all = section.querySelectorAll("[data-entry]").length;
        const kept = section.querySelectorAll("[data-entry]:not([hidden])").length;
        section.hidden = isFiltered && kept === 0;
        const noun = all === 1 ? "table" : "tables";
        const count = kept === all ? `${all} ${noun}` : `${kept} of ${all} ${noun}`;
        section.querySelector(".section-count").textContent = count;
      }
      nothing.hidden = shown > 0 || !isFiltered;
      if (isFiltered) announce(`${shown} ${shown === 1 ? "table" : "tables"}`);
      keepInAddress(input.value, databases, tags);
    };

    // Which column made a table match, when its name did not.
    const showColumns = (row, entry, words) => {
      row.querySelector(".table-columns")?.remove();
      const hits = entry.columns.filter((column) =>
        words.some((word) => column.toLowerCase().includes(word) && !entry.low.name.includes(word)),
      );
      if (hits.length === 0) return;
      const line = document.createElement("span");
      line.className = "table-columns";
      line.append(hits.length === 1 ? "Column " : "Columns ");
      hits.slice(0, 6).forEach((column, at) => {
        if (at > 0) line.append(", ");
        const code = document.createElement("code");
        code.append(marked(column, words));
        line.append(code);
      });
      row.querySelector(".table-about").after(line);
    };

    // A filtered list can be sent as a link, and the back button returns to it.
    const keepInAddress = (text, databases, tags) => {
      const values = new URLSearchParams();
      if (text) values.set("q", text);
      databases.forEach((name) => values.append("database", name));
      tags.forEach((tag) => values.append("tag", tag));
      try {
        history.replaceState(null, "", values.size ? `#?${values}` : location.pathname);
      } catch {
        // Some browsers do not let a page from a folder change its address.
      }
    };
    const restore = () => {
      const values = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
      input.value = values.get("q") ?? "";
      for (const chip of chips) {
        const is = values.getAll(chip.dataset.filter).includes(chip.dataset.value);
        chip.setAttribute("aria-pressed", String(is));
      }
      update();
    };

    input.addEventListener("input", update);
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        update();
      });
    }
    document.getElementById("clear").addEventListener("click", () => {
      input.value = "";
      chips.forEach((chip) => chip.setAttribute("aria-pressed", "false"));
      update();
      input.focus();
    });
    document.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      const now = links().indexOf(document.activeElement);
      if (event.target === input && event.key === "Escape") {
        input.value = "";
        update();
      } else if (event.target === input && event.key === "Enter") {
        best()?.click();
      } else if (step && (event.target === input || now >= 0)) {
        event.preventDefault();
        const next = now + step;
        if (next < 0) input.focus();
        else links()[Math.min(next, links().length - 1)]?.focus();
      }
    });
    // Enter in the box opens the best match that is shown, not the first of the list.
    const best = () => {
      const shown = new Set(links().map((link) => link.closest("[data-entry]").dataset.entry));
      const hit = find(input.value).find(({ entry }) => shown.has(entry.key));
      return hit && rows.find((row) => row.dataset.entry === hit.entry.key).querySelector("a");
    };
    window.addEventListener("hashchange", restore);
    restore();
  }

  // --- other pages: a list below the box -----------------------------------------------------
  function listResults() {
    const list = document.getElementById("search-results");
    const root = document.body.dataset.root;
    let active = -1;

    const options = () => [...list.querySelectorAll("[role=option]")];
    const setOpen = (is) => {
      list.hidden = !is;
      input.setAttribute("aria-expanded", String(is));
      if (!is) activate(-1);
    };
    const activate = (at) => {
      active = at;
      options().forEach((option, index) => {
        option.setAttribute("aria-selected", String(index === at));
        if (index === at) option.scrollIntoView({ block: "nearest" });
      });
      if (at >= 0) input.setAttribute("aria-activedescendant", options()[at].id);
      else input.removeAttribute("aria-activedescendant");
    };
    const option = ({ entry, words }, at) => {
      const link = document.createElement("a");
      link.id = `search-option-${at}`;
      link.href = root + entry.page;
      link.tabIndex = -1;
      link.setAttribute("role", "option");
      link.setAttribute("aria-selected", "false");
      const name = document.createElement("span");
      name.className = "result-name";
      name.append(`${entry.database}.`, marked(entry.name, words));
      const about = document.createElement("span");
      about.className = "result-about";
      const column = entry.columns.find((candidate) =>
        words.some((word) => candidate.toLowerCase().includes(word) && !entry.low.path.includes(word)),
      );
      if (column) about.append("column ", marked(column, words));
      else about.append(entry.about);
      link.append(name, about);
      return link;
    };
    const update = () => {
      const hits = find(input.value).slice(0, RESULTS_MAX);
      list.replaceChildren(...hits.map(option));
      if (hits.length === 0) {
        const none = document.createElement("p");
        none.className = "result-none";
        none.textContent = "No table matches.";
        list.append(none);
      }
      setOpen(input.value.trim() !== "");
      activate(hits.length > 0 ? 0 : -1);
      if (input.value.trim()) announce(`${hits.length} ${hits.length === 1 ? "result" : "results"}`);
    };
    input.addEventListener("input", update);
    input.addEventListener("focus", () => input.value.trim() && update());
    input.addEventListener("keydown", (event) => {
      const count = options().length;
      if (event.key === "Escape") {
        setOpen(false);
        input.value = "";
      } else if (event.key === "Enter" && active >= 0) {
        options()[active].click();
      } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && count > 0) {
        event.preventDefault();
        activate((active + (event.key === "ArrowDown" ? 1 : -1) + count) % count);
      }
    });
    // Closing on blur would take the result away under the pointer that is about to click it.
    document.addEventListener("pointerdown", (event) => {
      if (!event.target.closest(".search")) setOpen(false);
    });
    input.addEventListener("blur", (event) => {
      if (event.relatedTarget && !event.relatedTarget.closest(".search")) setOpen(false);
    });
  }
})();
