"use strict";
// Everything that comes from the server is put into the page as text.
const $ = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// State -> [mark, kind]: colour never says it alone.
const STATES = {
  waiting: ["…", "idle"], starting: ["▸", "work"], ready: ["✓", "good"], unhealthy: ["!", "bad"],
  stopping: ["■", "warn"], stopped: ["■", "idle"], failed: ["✕", "bad"], degraded: ["!", "bad"],
  active: ["✓", "good"], shadow: ["◦", "work"], disabled: ["–", "idle"], faulted: ["✕", "bad"],
  pending: ["…", "work"], applied: ["✓", "good"],
  ok: ["✓", "good"], warning: ["!", "warn"], critical: ["!", "bad"], expired: ["✕", "bad"], unreadable: ["✕", "bad"],
  Normal: ["·", "idle"], Warning: ["!", "warn"],
};
const look = state => Object.hasOwn(STATES, state) ? STATES[state] : ["?", "idle"];

function el(tag, props, ...children) {
  const e = document.createElement(tag);
  Object.assign(e, props);
  e.append(...children);
  return e;
}

function svg(tag, attributes, text) {
  const e = document.createElementNS(SVG, tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  if (text !== undefined) e.textContent = text;
  return e;
}

const badge = state => el("span", {className: "state " + look(state)[1], textContent: look(state)[0] + " " + state});

// Times and amounts.
function ms(n) {
  if (n < 1000) return Math.round(n) + " ms";
  return n < 100e3 ? (n / 1000).toPrecision(3) + " s" : age(n);
}
function us(n) {
  if (!n) return "–";
  return n < 1000 ? +n.toPrecision(3) + " µs" : ms(n / 1000);
}
function age(n) {
  const s = Math.max(0, Math.floor(n / 1000)), d = Math.floor(s / 86400), h = Math.floor(s / 3600) % 24, m = Math.floor(s / 60) % 60;
  return d ? `${d} d ${h} h` : h ? `${h} h ${m} min` : m ? `${m} min ${s % 60} s` : `${s} s`;
}
const clock = text => new Date(text).toLocaleTimeString([], {hour12: false});

// table fills a table: columns are [title, class], cells strings or elements.
function table(id, columns, rows, nothing) {
  const t = $(id);
  if (rows.length === 0) {
    t.replaceChildren(el("tbody", {}, el("tr", {}, el("td", {className: "empty", textContent: nothing}))));
    return;
  }
  t.replaceChildren(
    el("thead", {}, el("tr", {}, ...columns.map(([title, c]) => el("th", {scope: "col", className: c || "", textContent: title})))),
    el("tbody", {}, ...rows.map(cells => el("tr", {}, ...cells.map((cell, i) => {
      const td = el(i ? "td" : "th", {className: columns[i][1] || ""}, cell);
      if (!i) td.scope = "row";
      return td;
    })))));
}

// layers puts each unit right of all it needs, and no further left of what needs it
// than it must be.
function layers(units) {
  const depth = new Map(), byName = new Map(units.map(u => [u.unit, u])), reach = new Map();
  for (const u of units) { // needs come first
    const needs = (u.needs || []).filter(n => depth.has(n));
    depth.set(u.unit, needs.reduce((d, n) => Math.max(d, depth.get(n) + 1), 0));
    reach.set(u.unit, new Set(needs.flatMap(n => [n, ...reach.get(n)])));
  }
  for (const u of units.toReversed()) {
    const needed = units.filter(o => (o.needs || []).includes(u.unit)).map(o => depth.get(o.unit));
    if (needed.length) depth.set(u.unit, Math.min(...needed) - 1);
  }
  const out = [];
  for (const u of units) (out[depth.get(u.unit)] ||= []).push(u.unit);
  const edges = [];
  for (const u of units) for (const n of u.needs || []) {
    if (byName.has(n) && !u.needs.some(o => o !== n && reach.get(o)?.has(n))) edges.push([n, u.unit]);
  }
  return {out, edges};
}

const W = 142, H = 38, GAPX = 30, GAPY = 12;

function drawGraph(units, now) {
  const {out, edges} = layers(units), tall = Math.max(...out.map(l => l.length));
  const place = new Map(), row = H + GAPY;
  out.forEach((names, x) => {
    // Near what they need, in boot order where that does not decide.
    const wish = n => {
      const from = edges.filter(e => e[1] === n).map(e => place.get(e[0]).y);
      return from.length ? from.reduce((a, b) => a + b) / from.length : 0;
    };
    const sorted = names.map(n => [wish(n), n]).sort((a, b) => a[0] - b[0]).map(p => p[1]);
    const top = (tall - names.length) * row / 2;
    sorted.forEach((n, y) => place.set(n, {x: 2 + x * (W + GAPX), y: 2 + top + y * row}));
  });
  const g = $("graph"), width = out.length * (W + GAPX) - GAPX + 4, height = tall * row - GAPY + 4;
  g.setAttribute("viewBox", `0 0 ${width} ${height}`);
  g.setAttribute("aria-label", units.map(u => `${u.unit} is ${u.state}${u.needs ? ", needs " + u.needs.join(" and ") : ""}`).join("; "));
  const lines = edges.map(([from, to]) => {
    const a = place.get(from), b = place.get(to), x1 = a.x + W, y1 = a.y + H / 2, x2 = b.x, y2 = b.y + H / 2, bend = GAPX * .8;
    return svg("path", {d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`});
  });
  const boxes = units.map(u => {
    const p = place.get(u.unit), [mark, kind] = look(u.state), box = svg("g", {class: kind, transform: `translate(${p.x} ${p.y})`});
    const sub = u.state === "ready" && u.ready_after_ms !== undefined ? "ready in " + ms(u.ready_after_ms)
      : u.state === "starting" ? "starting, " + age(now - new Date(u.since)) : u.state;
    box.append(svg("rect", {width: W, height: H, rx: 7}), svg("text", {x: 9, y: 16, class: "mark"}, mark),
      svg("text", {x: 23, y: 16}, u.unit), svg("text", {x: 23, y: 30, class: "sub"}, sub),
      svg("title", {}, [u.unit, u.state, detail(u)].filter(Boolean).join(": ")));
    return box;
  });
  g.replaceChildren(...lines, ...boxes);
}

const detail = u => u.error || u.probe_error || u.progress || (u.waiting_for ? "for " + u.waiting_for.join(", ") : "");

function drawUnits(status, now) {
  const elapsed = now - new Date(status.started_at);
  const ends = status.units.map(u => u.ready_after_ms === undefined ? elapsed : u.started_after_ms + u.ready_after_ms);
  const total = Math.max(1, ...ends) * 1.12; // room for the last figure
  table("units", [["Unit"], ["State"], ["0 – " + ms(total / 1.12), "bar"], ["What it waits for", "text"]], status.units.map((u, i) => {
    const part = (kind, from, to, text) => {
      const s = el("span", {className: kind, textContent: text || ""});
      s.style.left = 100 * from / total + "%";
      if (to !== undefined) s.style.width = 100 * Math.max(0, to - from) / total + "%";
      return s;
    };
    const start = u.started_after_ms ?? Math.min(elapsed, total), end = Math.min(ends[i], total), track = el("div", {className: "track"});
    track.append(part("waiting", 0, start));
    if (u.started_after_ms !== undefined) track.append(part("starting", start, end));
    if (u.ready_after_ms !== undefined) {
      track.append(part("ready", end, total));
      track.append(end > total * .9 ? part("ms", Math.max(0, start - total * .1), undefined, ms(u.ready_after_ms))
        : part("ms", end, undefined, ms(u.ready_after_ms)));
      track.title = `waited ${ms(start)}, ready after ${ms(u.ready_after_ms)}`;
    }
    return [u.unit, badge(u.state), track, el("div", {className: "clamp", title: detail(u), textContent: detail(u)})];
  }), "No units yet.");
}

let latest, received, shown = {}, lost = 0;

// draw redraws what has changed.
function draw() {
  if (!latest) return;
  const {status, events} = latest, now = new Date(status.observed_at).getTime() + Date.now() - received;
  const changed = (name, value) => {
    const text = JSON.stringify(value);
    return shown[name] !== text && (shown[name] = text, true);
  };
  $("main").hidden = false;
  const settled = status.units.every(u => u.state === "ready");
  if (changed("head", [status.node, status.state])) {
    $("node").textContent = status.node;
    const [mark, kind] = look(status.state);
    $("state").className = "state " + kind;
    $("state").textContent = mark + " " + status.state;
    document.title = `${mark} ${status.node} ${status.state} – cleat`;
  }
  if (!lost && changed("about", [status.version, age(now - new Date(status.started_at)), status.datastore])) {
    const pairs = [["Version", status.version], ["Kubernetes", status.kubernetes], ["Up", age(now - new Date(status.started_at))]];
    if (status.datastore) pairs.push(["Datastore", status.datastore.description]);
    $("about").replaceChildren(...pairs.map(([k, v]) => el("div", {}, el("dt", {textContent: k}), el("dd", {textContent: v}))));
  }
  // While something moves, so do the bars.
  if (status.units.length && changed("units", [status.units, settled || lost ? 0 : Math.floor(now / 1000)])) {
    drawGraph(status.units, now);
    drawUnits(status, now);
  }
  if (changed("plugins", status.plugins)) {
    table("plugins", [["Plugin"], ["Version"], ["State"], ["Points"], ["Calls", "n"], ["Allowed", "n"], ["Denied", "n"], ["Changed", "n"], ["Faults", "n"],
      ["p50", "n"], ["p99", "n"], ["Last fault", "text"]],
    status.plugins.map(p => [p.name, p.version, badge(p.state), p.points.join(", "), p.calls, p.allowed, p.denied, p.mutations, p.faults,
      us(p.p50_us), us(p.p99_us), p.last_fault ? clock(p.last_fault.at) + " " + p.last_fault.text : ""].map(c => typeof c === "number" ? String(c) : c)),
    "The plugins are being opened.");
  }
  if (changed("addons", status.addons)) {
    table("addons", [["Addon"], ["State"], ["Objects", "n"], ["File, or what failed", "text"]],
      status.addons.map(a => [a.name, badge(a.state), String(a.objects), a.error || a.file]), "None yet.");
  }
  if (changed("events", events)) {
    table("events", [["Last"], ["Kind"], ["Reason"], ["Message", "text"]],
      events.toReversed().map(e => [clock(e.at), badge(e.warning ? "Warning" : "Normal"), e.reason, e.message + (e.count > 1 ? ` (${e.count} times)` : "")]),
      "None, or the API server does not answer yet.");
  }
  if (changed("certificates", status.certificates)) {
    table("certificates", [["Certificate", "path"], ["State"], ["Ends"], ["Days left", "n"], ["Subject", "text"]],
      status.certificates.map(c => [c.file, badge(c.state), c.not_after ? c.not_after.slice(0, 10) : "–", c.not_after ? String(c.days_left) : "–", c.error || c.subject || ""]),
      "None yet.");
  }
}

function banner(text, mild) {
  $("banner").hidden = !text;
  $("banner").className = mild ? "mild" : "";
  if ($("banner").textContent !== text) $("banner").textContent = text;
}

const pause = n => new Promise(done => setTimeout(done, n));

// follow reads one stream to its end. It throws what ends it before the first message.
async function follow() {
  const silence = new AbortController();
  let timer;
  const alive = () => { clearTimeout(timer); timer = setTimeout(() => silence.abort(), 16000); };
  alive();
  try {
    const answer = await fetch("stream", {signal: silence.signal, cache: "no-store", headers: {"Cleat-Page-Key": localStorage.getItem("key") || ""}});
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(said.message || answer.statusText), {status: answer.status});
    }
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ;) {
      const {value, done} = await reader.read();
      if (done) return;
      alive();
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        if (!part.startsWith("data: ")) continue;
        latest = JSON.parse(part.slice(6));
        received = Date.now();
        lost = 0;
        document.body.classList.remove("lost");
        banner("");
        draw();
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

async function main() {
  const code = location.hash.slice(1);
  let refusal = "";
  if (code) {
    // Out of the address bar and the history before anything else.
    history.replaceState(null, "", location.pathname);
    const answer = await fetch("session", {method: "POST", body: code, headers: {"Content-Type": "text/plain"}}).catch(() => null);
    if (!answer) refusal = "The server could not be reached.";
    else if (answer.ok) localStorage.setItem("key", (await answer.json()).key);
    else refusal = (await answer.json().catch(() => ({}))).message || answer.statusText;
  }
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    const before = latest;
    let why = "", status = 0;
    try {
      await follow();
    } catch (e) {
      why = e.message;
      status = e.status || 0;
    }
    if (status === 401 || status === 403) {
      document.body.classList.toggle("lost", !!latest);
      banner((refusal ? "Refused: " + refusal : "Not signed in: " + why) + ".\n");
      return;
    }
    if (latest !== before) wait = 500; // it worked: the stream ended, or was cut
    if (why || latest === before) {
      lost ||= Date.now();
      document.body.classList.toggle("lost", !!latest);
      banner((status ? "The server says: " + why : "No connection to the server since " + clock(lost)) + ". Trying again." +
        (latest ? "\nThis is how it was then." : ""), status !== 0);
    }
    await pause(wait);
  }
}

setInterval(draw, 1000);
addEventListener("hashchange", () => location.reload()); // another link in the same tab
main();
