"use strict";
(async () => {
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const charts = [...document.querySelectorAll(".chart")].map((element) => [element, JSON.parse(element.textContent)]);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;

  // In both directions empty cells come last and numbers, also those written as text, come before words.
  const numeric = (cell) => cell.textContent.trim() === "" ? NaN : Number(cell.dataset.value ?? cell.textContent);
  function compare(one, other, sign) {
    const [a, b] = [numeric(one), numeric(other)];
    if (!isNaN(a) && !isNaN(b)) return sign * (a - b);
    if (isNaN(a) !== isNaN(b)) return isNaN(a) - isNaN(b);
    const [first, second] = [one.textContent, other.textContent];
    if (first === "" || second === "") return (first === "") - (second === "");
    return sign * first.localeCompare(second, "en", { numeric: true });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      heads.forEach((each) => { each.ariaSort = "none"; });
      head.ariaSort = sign > 0 ? "ascending" : "descending";
      body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
    }));
    const filter = table.parentElement.previousElementSibling;
    filter.addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const row of body.rows) {
        const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      filter.querySelector("output").textContent = `${shown} of ${body.rows.length} rows`;
    });
  }

  if (charts.length === 0) return;
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);

  function draw([element, { data, layout }], scheme, width) {
    const themed = { dragmode: touch ? false : "zoom", ...layout, template: templates[scheme], width };
    return Plotly.react(element, data, structuredClone(themed), { displayModeBar: false, responsive: true });
  }
  const scheme = () => dark.matches ? "dark" : "light";
  dark.addEventListener("change", () => charts.forEach((chart) => draw(chart, scheme())));
  addEventListener("beforeprint", () => charts.forEach((chart) => draw(chart, "light", 640)));
  addEventListener("afterprint", () => charts.forEach((chart) => draw(chart, scheme())));
  for (const chart of charts) {
    chart[0].textContent = "";
    await draw(chart, scheme());
    await new Promise((resolve) => setTimeout(resolve)); // keeps the report responsive between charts
  }
})();
