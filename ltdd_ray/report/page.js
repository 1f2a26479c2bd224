// Enlarges the image under the pointer or with the focus, and shows its soft label. The Tab key
// goes from strip to strip. Arrow keys, Home and End move within a strip and between strips.
const inspector = document.getElementById("inspector");
const strips = [...document.querySelectorAll(".strip")].map(
  (strip) => [...strip.querySelectorAll(".tile")],
);

function show(tile) {
  inspector.querySelector("img").src = tile.firstChild.src;
  inspector.querySelector("p").textContent = tile.firstChild.alt.split(";")[0];
  const lines = JSON.parse(tile.dataset.softLabel).map(([name, share]) => {
    const line = document.createElement("li");
    const percent = (100 * share).toFixed(1) + " %";
    line.style.setProperty("--share", percent.replace(" ", ""));
    line.append(Object.assign(document.createElement("span"), { textContent: name }), percent);
    return line;
  });
  inspector.querySelector("ol").replaceChildren(...lines);
  inspector.hidden = false;
}

function hide() {
  inspector.hidden = true;
}

function move(row, column, key) {
  const down = { ArrowDown: 1, ArrowUp: -1 }[key] ?? 0;
  const tiles = strips[row + down] ?? strips[row];
  const last = tiles.length - 1;
  const columns = { ArrowRight: column + 1, ArrowLeft: column - 1, Home: 0, End: last };
  tiles[Math.max(0, Math.min(columns[key] ?? column, last))].focus();
}

strips.forEach((tiles, row) => tiles.forEach((tile, column) => {
  tile.tabIndex = column ? -1 : 0;
  tile.addEventListener("pointerenter", () => show(tile));
  tile.addEventListener("pointerleave", hide);
  tile.addEventListener("blur", hide);
  tile.addEventListener("focus", () => {
    tiles.forEach((other) => { other.tabIndex = other === tile ? 0 : -1; });
    show(tile);
  });
  tile.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
    if (!/^(Arrow|Home|End)/.test(event.key)) return;
    event.preventDefault();
    move(row, column, event.key);
  });
}));
