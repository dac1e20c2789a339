/* The pages of `vqcodec bench` and `vqcodec compare`: curves, sortable tables and picture viewer. File and codec names are inserted only as text
   (textContent, setAttribute), never as markup. Styles are set through the CSSOM, which the page's policy allows. */
(() => {
  "use strict";

  const byId = (id) => document.getElementById(id);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const read = (id) => JSON.parse(byId(id).textContent);

  /** Create an HTML element with attributes and children. String children become text. */
  function element(name, attributes = {}, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  /** Create an SVG element in the same way. */
  function shape(name, attributes = {}, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  }

  /** Set attributes and append children. */
  function fill(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /** A group of radio buttons, styled as one segmented control. `change` is called with the selected value. */
  function segments(id, choices, change) {
    const box = byId(id);
    choices.forEach(([value, text], index) => {
      const input = element("input", { type: "radio", name: id, value });
      input.checked = index === 0;
      input.addEventListener("change", () => change(value));
      box.append(element("label", {}, input, element("span", {}, text)));
    });
  }

  /** Call `callback` when the width of a box changes. It runs in the next frame, because it may change the height. */
  function onWidth(box, callback) {
    let width = box.clientWidth;
    const check = () => {
      if (box.clientWidth === width) return;
      width = box.clientWidth;
      callback();
    };
    new ResizeObserver(() => requestAnimationFrame(check)).observe(box);
  }

  // ---------------------------------------------------------------------------------------------------------- curves

  const MARKERS = [
    "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z", // disc
    "M-4 -4h8v8h-8z", // square
    "M0 -5.2L5 3.8h-10z", // triangle
    "M0 -5.6L5.6 0L0 5.6L-5.6 0z", // diamond
    "M0 5.2L5 -3.8h-10z", // triangle, point down
    "M-1.8 -5.2h3.6v3.4h3.4v3.6h-3.4v3.4h-3.6v-3.4h-3.4v-3.6h3.4z", // plus
    "M0 -5.4L5.1 -1.7L3.2 4.4h-6.4L-5.1 -1.7z", // pentagon
    "M-5.2 -3.2L-3.2 -5.2L0 -2L3.2 -5.2L5.2 -3.2L2 0L5.2 3.2L3.2 5.2L0 2L-3.2 5.2L-5.2 3.2L-2 0z", // cross
  ];
  const COLOURS = 8;

  function curves() {
    const { codecs, measures, scopes } = read("curves-data");
    // Colours and shapes repeat after 8 curves. Every repetition shifts the shapes, so that 64 curves stay distinct.
    const styles = new Map(codecs.map((codec, i) => [codec.name, [i % COLOURS, (i + Math.floor(i / COLOURS)) % MARKERS.length]]));
    const state = { measure: measures[0], scope: 0, log: true, decibels: true, hidden: new Set(), lit: null };
    const chart = byId("chart");
    const svg = chart.querySelector("svg");
    const tip = byId("tip");
    let points = []; // drawn points {x, y, curve, index, node}, in keyboard order

    /** The value of a point on the y axis. MS-SSIM values crowd near 1; in dB, equal steps look equal. */
    function height(point) {
      const value = point[state.measure.key];
      if (value === null || value === undefined) return null;
      const shown = state.measure.similarity && state.decibels ? -10 * Math.log10(1 - value) : value;
      return Number.isFinite(shown) ? shown : null;
    }

    function draw() {
      const width = Math.max(chart.clientWidth, 240);
      const tall = clamp(width * 0.56, 300, 520);
      const frame = { left: 46, right: width - 12, top: 30, bottom: tall - 44 };
      const known = scopes[state.scope].curves
        .map((curve) => ({ ...curve, points: curve.points.filter((p) => p.bpp > 0 && height(p) !== null) }))
        .filter((curve) => curve.points.length);
      const visible = known.filter((curve) => !state.hidden.has(curve.name));
      offer(new Set(known.map((curve) => curve.name)));
      const all = visible.flatMap((curve) => curve.points);
      const x = axis(all.map((p) => p.bpp), frame.left, frame.right, state.log, width / 70);
      // Up is better: the axis of a distance is reversed.
      const [worst, best] = state.measure.rising ? [frame.bottom, frame.top] : [frame.top, frame.bottom];
      const y = axis(all.map(height), worst, best, false, tall / 55);
      points = [];
      svg.setAttribute("viewBox", `0 0 ${width} ${tall}`);
      svg.setAttribute("height", tall);
      svg.setAttribute("aria-label", `${unit()} against bits per pixel, ${visible.length} curves`);
      const drawn = visible.map((curve) => series(curve, x, y));
      svg.replaceChildren(grid(x, y, frame, visible.some((c) => c.published)), ...drawn.reverse()); // the first curve is drawn on top
      if (!all.length) svg.append(shape("text", { x: width / 2, y: tall / 2, "text-anchor": "middle" }, "No curve to show"));
      if (points.length) points[0].node.setAttribute("tabindex", "0");
      highlight(state.lit);
      hideTip();
    }

    function unit() {
      const { label, similarity } = state.measure;
      if (similarity && !state.decibels) return label;
      if (similarity) return chart.clientWidth < 480 ? `${label}, dB` : `${label}, dB: −10 log₁₀(1 − ${label})`;
      if (!state.measure.rising) return `${label}, axis reversed${chart.clientWidth < 480 ? "" : ": lower is better"}`;
      return state.measure.unit ? `${label}, ${state.measure.unit}` : label;
    }

    function grid(x, y, frame, published) {
      const group = shape("g", { "aria-hidden": "true" });
      for (const tick of y.ticks) {
        const at = y.place(tick);
        group.append(shape("line", { class: "grid", x1: frame.left, x2: frame.right, y1: at, y2: at }));
        group.append(shape("text", { x: frame.left - 8, y: at + 4, "text-anchor": "end" }, y.text(tick)));
      }
      for (const tick of x.ticks) {
        const at = x.place(tick);
        group.append(shape("line", { class: "grid", x1: at, x2: at, y1: frame.top, y2: frame.bottom }));
        group.append(shape("text", { x: at, y: frame.bottom + 18, "text-anchor": "middle" }, x.text(tick)));
      }
      const { left, right, bottom } = frame;
      group.append(shape("line", { class: "base", x1: left, x2: right, y1: bottom, y2: bottom }));
      group.append(shape("text", { class: "axis", x: 0, y: 12 }, unit()));
      const below = `bits per pixel${state.log ? ", logarithmic" : ""}`;
      group.append(shape("text", { class: "axis", x: right, y: bottom + 38, "text-anchor": "end" }, below));
      if (published) group.append(shape("text", { x: right, y: 12, "text-anchor": "end" }, "dashed: published, not measured"));
      return group;
    }

    function series(curve, x, y) {
      const [colour, marker] = styles.get(curve.name);
      const kind = curve.published ? " published" : curve.own ? " own" : "";
      const group = shape("g", { class: `series c${colour}${kind}` });
      group.dataset.codec = curve.name;
      const drawn = curve.points.map((p, index) => ({ x: x.place(p.bpp), y: y.place(height(p)), curve, index }));
      group.append(shape("path", { class: "curve", d: "M" + drawn.map((p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("L") }));
      for (const point of drawn) {
        const place = `translate(${point.x.toFixed(1)} ${point.y.toFixed(1)}) scale(${chart.clientWidth < 480 ? 0.8 : 1})`;
        const label = [curve.name, ...lines(point)].join(", ");
        point.node = shape("g", { class: "point", role: "img", tabindex: "-1", transform: place, "aria-label": label });
        point.node.append(shape("circle", { class: "ring", r: 9 }), shape("path", { class: "shape", d: MARKERS[marker] }));
        point.node.addEventListener("focus", () => show(point));
        point.node.addEventListener("blur", hideTip);
        group.append(point.node);
        points.push(point);
      }
      return group;
    }

    /** The description of a point, as lines of text. */
    function lines({ curve, index }) {
      const point = curve.points[index];
      const { key, label, unit: dimension, digits, similarity } = state.measure;
      let figure = `${label} ${point[key].toFixed(digits)}${dimension ? ` ${dimension}` : ""}`;
      if (similarity) figure += ` (${(-10 * Math.log10(1 - point[key])).toFixed(2)} dB)`;
      const texts = [`${point.bpp.toFixed(3)} bpp · ${figure}`];
      if (point.quality) texts.unshift(point.quality);
      if (curve.published) texts.push(`published, not measured${curve.source ? `: ${curve.source}` : ""}`);
      return texts;
    }

    function show(point) {
      hideTip();
      point.node.classList.add("on");
      highlight(point.curve.name);
      tip.replaceChildren(element("strong", {}, point.curve.name), ...lines(point).map((line) => element("span", {}, line)));
      tip.hidden = false;
      // To the upper left, where the curve does not run; if there is no room, to the lower right.
      const [left, above] = [point.x - tip.offsetWidth - 12, point.y - tip.offsetHeight - 12];
      const x = left >= 0 ? left : clamp(point.x + 12, 0, Math.max(chart.clientWidth - tip.offsetWidth, 0));
      tip.style.transform = `translate(${x}px, ${above >= 0 ? above : point.y + 14}px)`;
    }

    function hideTip() {
      tip.hidden = true;
      for (const point of points) point.node.classList.remove("on");
      highlight(null);
    }

    /** Highlight one curve; null removes the highlight. */
    function highlight(name) {
      state.lit = name;
      svg.classList.toggle("dim", name !== null);
      for (const group of svg.querySelectorAll(".series")) group.classList.toggle("lit", group.dataset.codec === name);
    }

    function onPointer(event) {
      const box = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const reach = event.pointerType === "touch" ? 44 : 28;
      const distance = (point) => Math.hypot(point.x - x, point.y - y);
      const nearest = points.reduce((best, point) => (best && distance(best) <= distance(point) ? best : point), null);
      if (nearest && distance(nearest) < reach) show(nearest);
      else hideTip();
    }
    for (const kind of ["pointermove", "pointerdown"]) svg.addEventListener(kind, onPointer);
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideTip());

    /** The chart is a single tab stop. Left and right move along a curve, up and down between curves. */
    svg.addEventListener("keydown", (event) => {
      const now = points.findIndex((point) => point.node === document.activeElement);
      if (now < 0) return;
      const names = [...new Set(points.map((point) => point.curve.name))];
      const { curve, x } = points[now];
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const jump = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      let next = null;
      if (step) next = points[clamp(now + step, 0, points.length - 1)];
      if (jump) {
        const other = names[(names.indexOf(curve.name) + jump + names.length) % names.length];
        const there = points.filter((point) => point.curve.name === other);
        next = there.reduce((best, point) => (Math.abs(point.x - x) < Math.abs(best.x - x) ? point : best));
      }
      if (event.key === "Escape") hideTip();
      if (!next) return;
      event.preventDefault();
      points[now].node.setAttribute("tabindex", "-1");
      next.node.setAttribute("tabindex", "0");
      next.node.focus();
    });

    const boxes = [
      ["legend-measured", codecs.filter((codec) => !codec.published)],
      ["legend-published", codecs.filter((codec) => codec.published)],
    ];

    /** Show the buttons of the curves that have points by the selected measure and of the selected pictures. */
    function offer(names) {
      for (const [id, group] of boxes) {
        for (const codec of group) codec.button.hidden = !names.has(codec.name);
        byId(id).hidden = group.every((codec) => codec.button.hidden);
      }
    }

    function legend() {
      for (const [id, group] of boxes) {
        const box = byId(id);
        const buttons = group.map((codec) => {
          const [colour, marker] = styles.get(codec.name);
          const icon = shape("svg", { width: 26, height: 12, viewBox: "-13 -6 26 12", class: `c${colour}`, "aria-hidden": "true" });
          const kind = codec.published ? "published" : codec.own ? "own" : "";
          icon.append(shape("g", { class: kind }, shape("path", { class: "curve", d: "M-13 0H13" }), shape("path", { class: "shape", d: MARKERS[marker] })));
          const button = element("button", { type: "button", "aria-pressed": "true" }, icon, element("span", {}, codec.name));
          button.addEventListener("click", () => setVisible([codec], state.hidden.has(codec.name)));
          button.addEventListener("pointerenter", () => highlight(state.hidden.has(codec.name) ? null : codec.name));
          button.addEventListener("pointerleave", () => highlight(null));
          codec.button = button;
          return button;
        });
        box.append(...buttons);
        for (const [action, on] of [["Show all", true], ["Hide all", false]]) {
          const button = element("button", { type: "button" }, action);
          button.addEventListener("click", () => setVisible(group, on));
          box.querySelector(".group").append(button);
        }
      }
    }

    function setVisible(group, on) {
      for (const codec of group) {
        if (on) state.hidden.delete(codec.name);
        else state.hidden.add(codec.name);
        codec.button.setAttribute("aria-pressed", String(on));
      }
      draw();
    }

    const choose = (change) => (value) => {
      change(value);
      byId("similarity-field").hidden = !state.measure.similarity;
      draw();
    };
    segments("measure", measures.map((m) => [m.key, m.label]), choose((key) => (state.measure = measures.find((m) => m.key === key))));
    segments("similarity", [["dB", "dB"], ["raw", "raw"]], choose((value) => (state.decibels = value === "dB")));
    segments("scale", [["log", "log"], ["linear", "linear"]], choose((value) => (state.log = value === "log")));
    const select = byId("scope");
    select.append(...scopes.map((scope, index) => element("option", { value: index }, scope.name)));
    select.addEventListener("change", choose(() => (state.scope = select.selectedIndex)));
    byId("similarity-field").hidden = !state.measure.similarity;
    legend();
    byId("scope-field").hidden = scopes.length < 2;
    byId("curves").hidden = false;
    draw();
    onWidth(chart, draw); // drawn at pixel size, so that text keeps its size on a phone
  }

  /** Values -> axis {place: value -> pixel, ticks, text} from pixel `start` to `end`, with about `count` ticks. */
  function axis(values, start, end, log, count) {
    let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [1, 2];
    const to = log ? Math.log10 : (value) => value;
    const margin = (to(high) - to(low)) * 0.05 || (log ? 0.1 : Math.abs(high) * 0.05 || 1);
    [low, high] = [to(low) - margin, to(high) + margin];
    const place = (value) => start + ((to(value) - low) / (high - low)) * (end - start);
    const ticks = log ? logTicks(low, high, count) : linearTicks(low, high, count);
    const step = ticks.length > 1 ? Math.min(...ticks.slice(1).map((tick, i) => tick - ticks[i])) : 1;
    const digits = clamp(Math.ceil(-Math.log10(step) - 1e-9), 0, 6);
    return { place, ticks, text: (value) => (log ? String(Number(value.toPrecision(3))) : value.toFixed(digits)) };
  }

  function linearTicks(low, high, count) {
    const raw = (high - low) / Math.max(count, 2);
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
    const first = Math.ceil(low / step);
    return Array.from({ length: Math.max(Math.floor(high / step) - first + 1, 0) }, (_, i) => (first + i) * step);
  }

  /** Ticks at the densest of several sets of mantissas that still leaves room for the labels. */
  function logTicks(low, high, count) {
    const sets = [[1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9], [1, 1.5, 2, 3, 4, 5, 7], [1, 2, 3, 5], [1, 2, 5], [1, 3], [1]];
    let ticks = [];
    for (const mantissas of sets) {
      ticks = [];
      for (let power = Math.floor(low); power <= high; power++) {
        ticks.push(...mantissas.map((m) => m * 10 ** power).filter((t) => Math.log10(t) >= low && Math.log10(t) <= high));
      }
      const gaps = ticks.slice(1).map((tick, i) => Math.log10(tick / ticks[i]) / (high - low));
      if (gaps.every((gap) => gap * count >= 0.55)) return ticks;
    }
    return ticks;
  }

  // ---------------------------------------------------------------------------------------------------------- tables

  /** Turn headings into buttons. A click sorts by that column, a second click reverses the order. Empty cells stay last. */
  function sortable(table) {
    const headings = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    headings.forEach((heading, column) => {
      const button = element("button", { type: "button" }, ...heading.childNodes);
      heading.replaceChildren(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const other of headings) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const sign = down ? -1 : 1;
        body.append(...[...body.rows].sort((a, b) => compare(a.cells[column], b.cells[column], sign)));
      });
    });
  }

  function compare(a, b, sign) {
    const [left, right] = [a.dataset.value, b.dataset.value];
    if (left === undefined) return sign * a.textContent.localeCompare(b.textContent, "en", { numeric: true });
    if (left === "" || right === "") return (left === "") - (right === "");
    return left === right ? 0 : sign * (Number(left) - Number(right)); // Infinity - Infinity would be NaN
  }

  // ---------------------------------------------------------------------------------------------------------- viewer

  function viewer() {
    const names = read("pictures-data");
    const stage = byId("stage");
    const handle = byId("handle");
    const panes = [byId("pane-left"), byId("pane-right")];
    const choices = [byId("left"), byId("right")];
    const view = { zoom: 1, x: 0, y: 0, split: 50 };
    let picture = null;

    /** Show a picture. Its data is large, so it is parsed only now. */
    function open(index) {
      const labels = picture && choices.map((select) => picture.sides[select.value].label);
      picture = read(`picture-${index}`);
      choices.forEach((select, side) => {
        select.replaceChildren(...picture.sides.map((entry, i) => element("option", { value: i }, entry.label)));
        const same = labels ? picture.sides.findIndex((entry) => entry.label === labels[side]) : -1;
        select.value = same >= 0 ? same : picture.start[side];
      });
      view.zoom = 1;
      sides();
      layout();
    }

    /** Show the selected codecs on both sides, with their figures. */
    function sides() {
      choices.forEach((select, side) => {
        const entry = picture.sides[select.value];
        panes[side].replaceChildren(element("img", { src: entry.src, alt: [picture.name, entry.title].filter(Boolean).join(", "), draggable: "false" }));
        const facts = byId(side ? "facts-right" : "facts-left");
        const figures = entry.facts.map((fact) => element("span", {}, fact));
        facts.replaceChildren(element("p", {}, element("strong", {}, entry.title)), element("p", { class: "figures" }, ...figures));
      });
      paint();
    }

    /** Size the stage: the picture's aspect ratio, limited to 0.4 to 4, and small enough for the window. */
    function layout() {
      const ratio = clamp(picture.width / picture.height, 0.4, 4);
      const room = stage.parentElement.clientWidth;
      const width = Math.round(Math.min(room, Math.max(window.innerHeight * 0.8, 240) * ratio));
      stage.style.width = `${width}px`;
      stage.style.height = `${Math.round(width / ratio)}px`;
      paint();
    }

    /** The size of a picture pixel at zoom 1, in CSS pixels. */
    const fit = () => Math.min(stage.clientWidth / picture.width, stage.clientHeight / picture.height);

    function paint() {
      const { clientWidth: width, clientHeight: tall } = stage;
      const inside = (at, room) => (view.zoom < 1 ? (room * (1 - view.zoom)) / 2 : clamp(at, room * (1 - view.zoom), 0));
      view.x = inside(view.x, width);
      view.y = inside(view.y, tall);
      view.split = clamp(view.split, 0, 100);
      for (const pane of panes) pane.querySelector("img").style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
      panes[1].style.clipPath = `inset(0 0 0 ${view.split}%)`;
      handle.style.left = `${view.split}%`;
      handle.setAttribute("aria-valuenow", Math.round(view.split));
      const [left, right] = choices.map((select) => picture.sides[select.value].label);
      handle.setAttribute("aria-valuetext", `${Math.round(view.split)} % ${left}, the rest ${right}`);
      stage.classList.toggle("zoomed", view.zoom > 1); // then dragging moves the picture
      // With less than 1.5 screen pixels per picture pixel, nearest-neighbour scaling would show aliasing.
      stage.classList.toggle("pixels", view.zoom > 1 && fit() * view.zoom * devicePixelRatio >= 1.5);
      const percent = Math.round(fit() * view.zoom * devicePixelRatio * 100);
      byId("zoom").textContent = `${percent} %`;
    }

    /** Zoom by a factor around the point (x, y) of the stage. Returns whether the zoom changed. */
    function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2, least = Math.min(1, view.zoom)) {
      const before = view.zoom;
      view.zoom = clamp(before * factor, least, Math.max(4, 16 / fit()));
      view.x = x - ((x - view.x) / before) * view.zoom;
      view.y = y - ((y - view.y) / before) * view.zoom;
      paint();
      return view.zoom !== before;
    }

    const whole = () => zoom(1 / view.zoom);
    /** One picture pixel per screen pixel. This can make a small picture smaller than the stage. */
    const exact = () => zoom(1 / devicePixelRatio / fit() / view.zoom, undefined, undefined, 0);

    /** Active pointers. The handle moves the divider. Elsewhere, dragging moves a zoomed picture; two fingers pinch. */
    const held = new Map();
    const local = (event) => {
      const box = stage.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button > 0) return;
      const mode = stage.classList.contains("difference") || (view.zoom > 1 && event.target !== handle) ? "pan" : "split";
      held.set(event.pointerId, { ...local(event), mode });
      stage.setPointerCapture(event.pointerId);
      stage.classList.add("held");
      (handle.offsetParent ? handle : stage).focus({ preventScroll: true });
      // A touch may be the start of scrolling the page, so the divider only follows once the finger moves.
      if (mode === "split" && event.target !== handle && event.pointerType === "mouse") split(local(event).x);
      event.preventDefault();
    });
    stage.addEventListener("pointermove", (event) => {
      const last = held.get(event.pointerId);
      if (!last) return;
      const now = local(event);
      const other = [...held].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
        view.x += (now.x - last.x) / 2;
        view.y += (now.y - last.y) / 2;
        zoom(apart(now) / apart(last), (now.x + other.x) / 2, (now.y + other.y) / 2);
        last.mode = other.mode = "pan";
      } else if (last.mode === "pan") {
        view.x += now.x - last.x;
        view.y += now.y - last.y;
        paint();
      } else {
        split(now.x);
      }
      Object.assign(last, now);
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, (event) => {
        held.delete(event.pointerId);
        stage.classList.toggle("held", held.size > 0);
      });
    }

    function split(x) {
      view.split = (100 * x) / stage.clientWidth;
      paint();
    }

    /** The wheel scrolls the page, unless the viewer has the focus or the gesture is a pinch. */
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !stage.contains(document.activeElement)) return;
      const { x, y } = local(event);
      const amount = clamp(event.deltaY * (event.deltaMode ? 16 : 1), -200, 200);
      if (zoom(Math.exp(-amount / (event.ctrlKey ? 100 : 300)), x, y) || event.ctrlKey) event.preventDefault();
    }, { passive: false });

    const PANS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const STEPS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    const KEYS = { "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), 0: whole, 1: exact };
    stage.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return; // shortcuts of the browser
      if (event.key in PANS && (event.shiftKey || event.target === stage)) {
        view.x += (PANS[event.key][0] * stage.clientWidth) / 10;
        view.y += (PANS[event.key][1] * stage.clientHeight) / 10;
        paint();
      } else if (event.key in STEPS && event.target === handle) {
        view.split += STEPS[event.key];
        paint();
      } else if (event.key in KEYS) {
        KEYS[event.key]();
      } else {
        return;
      }
      event.preventDefault();
    });

    function swap() {
      [choices[0].value, choices[1].value] = [choices[1].value, choices[0].value];
      sides();
    }

    segments("mode", [["slider", "Slider"], ["difference", "Difference ×4"]], (mode) => {
      const difference = mode === "difference";
      stage.classList.toggle("difference", difference);
      // The handle is hidden in this mode, so the stage takes the keyboard focus.
      if (difference) fill(stage, { tabindex: "0", role: "group", "aria-label": "Difference of the two pictures, four times amplified" }, []);
      else for (const name of ["tabindex", "role", "aria-label"]) stage.removeAttribute(name);
    });
    const actions = { "zoom-in": () => zoom(1.5), "zoom-out": () => zoom(1 / 1.5), "zoom-fit": whole, "zoom-exact": exact, swap };
    for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", action);
    for (const select of choices) select.addEventListener("change", sides);
    const select = byId("picture");
    select.append(...names.map((name, index) => element("option", { value: index }, name)));
    select.addEventListener("change", () => open(select.selectedIndex));
    byId("picture-field").hidden = names.length < 2 && !names[0];
    byId("viewer").hidden = false;
    open(0);
    onWidth(stage.parentElement, layout);
  }

  if (byId("curves-data")) curves();
  for (const table of document.querySelectorAll("table.sortable")) sortable(table);
  if (byId("pictures-data")) viewer();
})();
