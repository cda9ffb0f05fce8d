"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const places = [...document.querySelectorAll("[data-chart]")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)");

  // A colour of ours is written @name, which the style sheet has for light, dark and print.
  function coloured(value, key, styles) {
    if (Array.isArray(value)) {
      return key === "colorscale" ? value.map(([at, name]) => [at, colour(name, styles)]) : value.map((each) =>
        typeof each === "object" && each !== null ? coloured(each, "", styles) : each);
    }
    if (typeof value === "object" && value !== null) {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, coloured(inner, name, styles)]));
    }
    return key === "color" || key === "bgcolor" ? colour(value, styles) : value;
  }

  function colour(name, styles) {
    return typeof name === "string" && name.startsWith("@") ? styles.getPropertyValue(`--${name.slice(1)}`).trim() : name;
  }

  function merged(base, own) {
    const whole = { ...base };
    for (const [key, value] of Object.entries(own)) {
      const both = [value, base[key]].every((each) => typeof each === "object" && each !== null && !Array.isArray(each));
      whole[key] = both ? merged(base[key], value) : value;
    }
    return whole;
  }

  function base(narrow) {
    const axis = {
      automargin: true, gridcolor: "@grid", linecolor: "@line", zerolinecolor: "@line", zeroline: false,
      title: { standoff: 8, font: { size: 13 } }, tickfont: { size: 12 },
    };
    return {
      paper_bgcolor: "@surface", plot_bgcolor: "@surface",
      font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif", size: 13, color: "@ink" },
      margin: { l: narrow ? 44 : 56, r: 14, t: 10, b: 40 },
      hoverlabel: { bgcolor: "@surface", bordercolor: "@muted", font: { color: "@ink" }, align: "left" },
      showlegend: true,
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 12 } },
      hovermode: "x unified", dragmode: coarse.matches ? false : "zoom",
      xaxis: axis, yaxis: axis,
    };
  }

  function draw(place) {
    const chart = charts[Number(place.dataset.chart)];
    const styles = getComputedStyle(document.documentElement);
    const layout = merged(base(place.clientWidth < 420), chart.layout);
    layout.width = place.clientWidth;
    layout.height = place.clientHeight;
    const themed = coloured(layout, "", styles);
    for (const key of ["paper_bgcolor", "plot_bgcolor"]) themed[key] = colour(layout[key], styles);
    for (const each of [themed.xaxis, themed.yaxis]) {
      for (const key of ["gridcolor", "linecolor", "zerolinecolor"]) each[key] = colour(each[key], styles);
    }
    themed.hoverlabel.bordercolor = colour(themed.hoverlabel.bordercolor, styles);
    Plotly.newPlot(place, coloured(chart.data, "data", styles), themed, { displayModeBar: false, responsive: false });
  }

  // A chart is drawn when it is about to be seen, and one after the other: a page of many can be read at once.
  const drawn = new Set();
  let waiting = [];
  function next() {
    const place = waiting.shift();
    if (place === undefined) return;
    drawn.add(place);
    draw(place);
    place.dataset.drawn = "true";
    setTimeout(next);
  }
  function drawSoon(chosen) {
    const idle = waiting.length === 0;
    waiting.push(...chosen.filter((place) => !waiting.includes(place)));
    if (idle) next();
  }
  const sight = new IntersectionObserver((entries) => {
    const seen = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    seen.forEach((place) => sight.unobserve(place));
    drawSoon(seen);
  }, { rootMargin: "400px" });
  places.forEach((place) => sight.observe(place));
  const drawAgain = () => drawSoon([...drawn]);

  let width = innerWidth;
  let timer;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAgain, 150);
  });
  dark.addEventListener("change", drawAgain);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("print");
    places.forEach(draw);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("print");
    drawAgain();
  });

  // Empty cells come last in either direction.
  function compare(a, b, column, sign) {
    const [left, right] = [a, b].map((row) => row.cells[column]);
    const [first, second] = [left, right].map((each) => each.textContent.trim());
    if (first === "" || second === "") return (first === "") - (second === "");
    const [x, y] = [left, right].map((each) => each.dataset.value);
    if (x !== undefined && y !== undefined) return sign * (Number(x) - Number(y));
    if (x !== undefined || y !== undefined) return (x === undefined) - (y === undefined);
    return sign * first.localeCompare(second, "en", { numeric: true });
  }

  for (const table of document.querySelectorAll("[data-table]")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((each) => each.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort((a, b) => compare(a, b, column, up ? 1 : -1)));
    }));
    const input = document.querySelector(`[data-filter="${table.dataset.table}"]`);
    const count = document.querySelector(`[data-count="${table.dataset.table}"]`);
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of body.rows) {
        const text = [...row.cells].map((each) => each.textContent).join(" ").toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${body.rows.length} rows`;
    });
  }
})();
