"use strict";
(() => {
  // A picture that stands in several places is stored once.
  const pictures = JSON.parse(document.getElementById("pictures").textContent);
  const show = (part) => {
    for (const image of part.querySelectorAll("img[data-picture]")) {
      image.src = "data:image/jpeg;base64," + pictures[image.dataset.picture];
      image.removeAttribute("data-picture");
    }
  };
  for (const part of document.querySelectorAll("details")) {
    part.addEventListener("toggle", () => part.open && show(part));
  }
  for (const image of document.querySelectorAll("img[data-picture]")) {
    if (!image.closest("details:not([open]), [hidden]")) show(image.parentElement);
  }
  window.addEventListener("beforeprint", () => show(document));

  // One cell of the matrix is open at a time; its items stand below.
  const cells = [...document.querySelectorAll(".matrix button")];
  const panelOf = (cell) => document.getElementById(cell.getAttribute("aria-controls"));
  const close = (cell) => {
    cell.setAttribute("aria-expanded", "false");
    panelOf(cell).hidden = true;
  };
  for (const cell of cells) {
    cell.addEventListener("click", () => {
      const isOpen = cell.getAttribute("aria-expanded") === "true";
      cells.filter((each) => each.getAttribute("aria-expanded") === "true").forEach(close);
      if (isOpen) return;
      cell.setAttribute("aria-expanded", "true");
      const panel = panelOf(cell);
      panel.hidden = false;
      show(panel);
      panel.scrollIntoView({ block: "nearest" });
    });
  }
  for (const panel of document.querySelectorAll(".panel")) {
    panel.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      const cell = cells.find((each) => panelOf(each) === panel);
      close(cell);
      cell.focus();
    });
  }

  // One stop for the Tab key; arrows go from cell to cell.
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const place = (cell) => [+cell.dataset.row, +cell.dataset.column];
  const enter = (cell) => {
    cells.forEach((each) => { each.tabIndex = -1; });
    cell.tabIndex = 0;
  };
  if (cells.length) enter(cells[0]);
  for (const cell of cells) {
    cell.addEventListener("focus", () => enter(cell));
    cell.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && cell.getAttribute("aria-expanded") === "true") close(cell);
      const step = steps[event.key];
      if (!step) return;
      event.preventDefault();
      const [row, column] = place(cell);
      const ahead = cells.filter((each) => {
        const [r, c] = place(each);
        return step[0] ? c === column && (r - row) * step[0] > 0 : r === row && (c - column) * step[1] > 0;
      });
      const distance = (each) => Math.abs(place(each)[0] - row) + Math.abs(place(each)[1] - column);
      ahead.sort((first, second) => distance(first) - distance(second));
      if (ahead.length) ahead[0].focus();
    });
  }
})();
