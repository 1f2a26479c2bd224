// Enlarges the image under the pointer or the focus and shows its soft label. Each strip is one stop of the Tab key;
// arrow keys, Home and End move inside it and between strips.
const inspector = document.getElementById("inspector");
const strips = [...document.querySelectorAll(".strip")].map((strip) => [...strip.querySelectorAll(".tile")]);

function show(tile) {
  inspector.querySelector("img").src = tile.firstChild.src;
  inspector.querySelector("p").textContent = tile.firstChild.alt.split(";")[0];
  inspector.querySelector("ol").replaceChildren(...JSON.parse(tile.dataset.softLabel).map(([name, share]) => {
    const line = document.createElement("li");
    const percent = (100 * share).toFixed(1) + " %";
    line.style.setProperty("--share", percent.replace(" ", ""));
    line.append(Object.assign(document.createElement("span"), { textContent: name }), percent);
    return line;
  }));
  inspector.hidden = false;
}

function hide() {
  inspector.hidden = true;
}

function move(row, column, key) {
  const down = { ArrowDown: 1, ArrowUp: -1 }[key] ?? 0;
  const tiles = strips[row + down] ?? strips[row];
  const wanted = { ArrowRight: column + 1, ArrowLeft: column - 1, Home: 0, End: tiles.length - 1 }[key] ?? column;
  tiles[Math.max(0, Math.min(wanted, tiles.length - 1))].focus();
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
