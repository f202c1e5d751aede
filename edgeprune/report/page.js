"use strict";
/* Draws the interactive figures over their still pictures. Colours are names of CSS variables ("--ticket", with an
   opacity "--ticket/0.2"), so that the figures follow the light or dark theme. */
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const style = getComputedStyle(document.documentElement);

  function colour(name) {
    const [variable, opacity] = name.split("/");
    const value = style.getPropertyValue(variable).trim();
    if (!opacity) return value;
    const number = parseInt(value.slice(1), 16);
    return `rgba(${number >> 16}, ${(number >> 8) & 255}, ${number & 255}, ${opacity})`;
  }

  function painted(part) {
    if (typeof part === "string") return part.startsWith("--") ? colour(part) : part;
    if (Array.isArray(part)) return part.map(painted);
    if (part === null || typeof part !== "object") return part;
    return Object.fromEntries(Object.entries(part).map(([key, value]) => [key, painted(value)]));
  }

  function draw(id) {
    const place = document.getElementById(id);
    const figure = painted(figures[id]);
    const layout = Object.assign(figure.layout, {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      // On a touch screen a drag scrolls the page.
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
      font: { family: style.fontFamily, size: 13, color: colour("--ink") },
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--ink") } },
    });
    // The picture stays where drawing fails. A hidden element has no size to draw in, so it is shown first.
    place.parentElement.classList.add("drawn");
    return Plotly.react(place, figure.data, layout, { responsive: true, displayModeBar: false }).catch(() => {
      place.parentElement.classList.remove("drawn");
    });
  }

  const drawAll = () => Object.keys(figures).forEach(draw);
  drawAll();
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => (part.open = true)));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
