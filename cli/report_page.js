// SPDX-License-Identifier: BSD-2-Clause
// Decodes the stream of a run (its form stands in cli/report_internal.h) and shows it. Loads nothing,
// sends nothing, and puts text into the page only as text, never as markup.
"use strict";

const STATE = { EMPTY: 0, TABLE: 1, RO: 2, RW: 3, MMIO: 4, PENDING: 5, ACCEPTED: 6, BLOCKED: 7, FROZEN: 8 };
const STATE_NAMES = ["empty", "table", "read-only leaf", "writable leaf", "MMIO", "pending: added, not accepted",
	"accepted leaf", "blocked", "frozen"];
const TREE_NAMES = ["direct", "direct, SMM", "mirror", "external"];
const EVENT = { OTHER: 0, ZAP_ALL: 1, NOTIFIER: 2, SLOTS: 3, TO_SHARED: 4, TO_PRIVATE: 5, ACCEPT: 6, BUILD: 7,
	FLUSH: 8, KICK: 9, DIRTY_LOG: 10, TEARDOWN: 11 };
const EVENT_NAMES = ["other", "zap all roots", "host took memory back", "memslots changed", "converted to shared",
	"converted to private", "guest accepted", "added at build", "flush", "kick", "dirty logging", "teardown"];
const FORMAT_NAMES = ["EPT", "NPT", "Secure EPT", "MMIO"];
const SIZE_NAMES = ["", "4 KiB", "2 MiB", "1 GiB", "512 GiB", "256 TiB"];
const PAGES = [0, 1, 512, 512 ** 2, 512 ** 3, 512 ** 4];
const NOT_TOLD = -1;

// ---- decoding --------------------------------------------------------------------------------

function reader(bytes) {
	let at = 0;
	const number = () => {
		let value = 0, unit = 1, byte;
		do {
			if (at >= bytes.length)
				throw new Error("the data of this report is cut off");
			byte = bytes[at++];
			value += (byte & 127) * unit;
			unit *= 128;
		} while (byte & 128);
		return value;
	};
	const signed = () => {
		const v = number();
		return v % 2 ? -(v + 1) / 2 : v / 2;
	};
	return { number, signed, byte: () => bytes[at++], more: () => at < bytes.length };
}

function makeNode(tree, level, index, number) {
	return { tree, level, index, number, base: index * PAGES[level] * 512, lastEntry: 0,
		pattern: new Uint16Array(512), lo: new Uint32Array(512), hi: new Uint32Array(512),
		last: new Int32Array(512).fill(NOT_TOLD), told: new Uint8Array(512), held: new Int32Array(9) };
}

// All of a run, in columns. Trees are left as they are at its end.
function decodeRun(bytes, meta) {
	const acts = meta.faults + meta.events, changes = meta.changes;
	const run = { acts, changes, steps: acts + changes, nodes: [],
		maps: TREE_NAMES.map(() => PAGES.map(() => new Map())),
		kind: new Uint8Array(acts), flags: new Uint8Array(acts), line: new Float64Array(acts),
		time: new Float64Array(acts), first: new Uint32Array(acts + 1), count: new Uint32Array(acts),
		gfn: new Float64Array(acts), offset: new Uint16Array(acts), pages: new Float64Array(acts),
		vcpu: new Int32Array(acts), code: new Uint32Array(acts), outcome: new Uint32Array(acts),
		retries: new Uint32Array(acts), tables: new Uint32Array(acts), external: new Uint32Array(acts),
		slot: new Int32Array(acts), cost: new Float64Array(acts), note: new Uint32Array(acts),
		node: new Uint32Array(changes), entry: new Uint16Array(changes), cflags: new Uint8Array(changes),
		pattern: new Uint16Array(changes), lo: new Uint32Array(changes), hi: new Uint32Array(changes),
		wasPattern: new Uint16Array(changes), wasLo: new Uint32Array(changes), wasHi: new Uint32Array(changes),
		wasLast: new Int32Array(changes), toldOld: new Map() };
	const patterns = meta.patterns.map(p => {
		const flags = BigInt("0x" + p[0]);
		return { lo: Number(flags & 0xffffffffn), hi: Number(flags >> 32n), format: p[1], state: p[2],
			address: p[3], kind: p[4], fields: p[5] };
	});
	const untold = patterns.push({ lo: 0, hi: 0, format: 0, state: STATE.EMPTY, address: 0, kind: 0, fields: [] }) - 1;
	run.patterns = patterns;
	run.state = Uint8Array.from(patterns, p => p.state);
	run.mapped = Uint8Array.from(patterns, p => p.state >= STATE.RO && p.state !== STATE.MMIO &&
		p.state !== STATE.FROZEN ? 1 : 0);

	const r = reader(bytes), pfns = [0, 0, 0, 0], word = { pattern: 0, lo: 0, hi: 0 };
	let line = 0, time = 0, faultGfn = 0, eventGfn = 0, lastNode = 0, c = 0, weight = 0, heaviest = 0;

	const readWord = tree => {
		const p = word.pattern = r.number(), pat = patterns[p];
		word.lo = pat.lo;
		word.hi = pat.hi;
		if (!pat.address)
			return;
		const pfn = pfns[tree] += r.signed();
		word.lo = (pat.lo | (pfn % 0x100000) << 12) >>> 0;
		word.hi = (pat.hi | Math.floor(pfn / 0x100000)) >>> 0;
	};
	const readNode = flags => {
		if ((flags & 3) === 2) {
			const place = r.byte(), index = r.number();
			const node = makeNode(place & 15, place >> 4, index, run.nodes.length);
			node.pattern.fill(untold);
			run.nodes.push(node);
			run.maps[node.tree][node.level].set(index, node);
			return node;
		}
		return run.nodes[(flags & 3) === 1 ? lastNode + r.signed() : lastNode];
	};
	const readChange = () => {
		const flags = r.byte(), node = readNode(flags);
		const entry = flags & 4 ? node.lastEntry + 1 : node.lastEntry + r.signed();
		readWord(node.tree);
		run.node[c] = lastNode = node.number;
		run.entry[c] = node.lastEntry = entry;
		run.cflags[c] = flags;
		run.pattern[c] = word.pattern;
		run.lo[c] = word.lo;
		run.hi[c] = word.hi;
		if (flags & 8) {
			readWord(node.tree);
			if (node.last[entry] === NOT_TOLD) {	// what was there before the run began
				node.pattern[entry] = word.pattern;
				node.lo[entry] = word.lo;
				node.hi[entry] = word.hi;
				node.told[entry] = 1;
				node.held[patterns[word.pattern].state]++;
			} else {
				run.toldOld.set(c, hex64(word.hi, word.lo));
			}
		}
		run.wasPattern[c] = node.pattern[entry];
		run.wasLo[c] = node.lo[entry];
		run.wasHi[c] = node.hi[entry];
		run.wasLast[c] = node.last[entry];
		weight += (maps(node, run.pattern[c]) - maps(node, run.wasPattern[c])) * PAGES[node.level];
		applyChange(run, c);
		node.told[entry] = 1;
		c++;
	};
	const maps = (node, pattern) => node.level <= 3 ? run.mapped[pattern] : 0;

	for (let a = 0; a < acts; a++) {
		const kind = run.kind[a] = r.byte();
		run.flags[a] = r.byte();
		run.line[a] = line += r.signed();
		run.time[a] = time += r.signed();
		const n = run.count[a] = r.number();
		run.first[a] = c;
		if (kind === 1) {
			run.vcpu[a] = r.number() - 1;
			run.gfn[a] = faultGfn += r.signed();
			run.offset[a] = r.number();
			run.code[a] = r.number();
			run.outcome[a] = r.number();
			run.retries[a] = r.number();
			run.tables[a] = r.number();
			run.external[a] = r.number();
			run.slot[a] = r.number() - 1;
			run.cost[a] = r.number();
			run.note[a] = r.number();
			run.pages[a] = 1;
		} else {
			run.outcome[a] = r.byte();
			run.gfn[a] = eventGfn += r.signed();
			run.pages[a] = r.number();
			run.external[a] = r.number();
			run.cost[a] = r.number();
			run.note[a] = r.number();
			run.vcpu[a] = run.slot[a] = -1;
		}
		for (let i = 0; i < n; i++)
			readChange();
		if (weight >= heaviest && n) {
			heaviest = weight;
			run.fullest = c + a + 1;
		}
	}
	if (c !== changes || r.more())
		throw new Error("the data of this report does not fit its own counts");
	run.first[acts] = c;
	run.position = run.steps;
	run.fullest ??= run.steps;
	run.weight = heaviest;
	return run;
}

function hex64(hi, lo) {
	return (hi >>> 0).toString(16).padStart(8, "0") + (lo >>> 0).toString(16).padStart(8, "0");
}

// ---- moving in time --------------------------------------------------------------------------

// Every change holds the word before and after it, so that time runs both ways.
function applyChange(run, c) {
	const node = run.nodes[run.node[c]], e = run.entry[c];
	node.held[run.state[run.wasPattern[c]]]--;
	node.held[run.state[run.pattern[c]]]++;
	node.pattern[e] = run.pattern[c];
	node.lo[e] = run.lo[c];
	node.hi[e] = run.hi[c];
	node.last[e] = c;
}

function undoChange(run, c) {
	const node = run.nodes[run.node[c]], e = run.entry[c];
	node.held[run.state[run.pattern[c]]]--;
	node.held[run.state[run.wasPattern[c]]]++;
	node.pattern[e] = run.wasPattern[c];
	node.lo[e] = run.wasLo[c];
	node.hi[e] = run.wasHi[c];
	node.last[e] = run.wasLast[c];
}

// The act of step s: the last one that begins at or before it.
function actAt(run, s) {
	let low = 0, high = run.acts;
	while (high - low > 1) {
		const mid = (low + high) >> 1;
		if (run.first[mid] + mid <= s)
			low = mid;
		else
			high = mid;
	}
	return low;
}

const stepOfAct = (run, a) => run.first[a] + a + 1;		// as a position: the act has begun
const endOfAct = (run, a) => run.first[a] + a + 1 + run.count[a];
const changesAt = (run, position) => position ? position - 1 - actAt(run, position - 1) : 0;

function actOfChange(run, c) {
	let low = 0, high = run.acts;
	while (high - low > 1) {
		const mid = (low + high) >> 1;
		if (run.first[mid] <= c)
			low = mid;
		else
			high = mid;
	}
	return low;
}

function seek(run, position) {
	const from = changesAt(run, run.position), to = changesAt(run, position);
	for (let c = from; c < to; c++)
		applyChange(run, c);
	for (let c = from; c-- > to;)
		undoChange(run, c);
	run.position = position;
}

// ---- looking at a tree -----------------------------------------------------------------------

function nodeFor(run, tree, level, gfn) {
	return run.maps[tree][level].get(Math.floor(gfn / (PAGES[level] * 512)));
}

const entryFor = (level, gfn) => Math.floor(gfn / PAGES[level]) % 512;

// The entry of one level: null if the run never tells of it.
function entryAt(run, tree, level, gfn) {
	const node = nodeFor(run, tree, level, gfn);
	if (!node)
		return null;
	const e = entryFor(level, gfn);
	if (!node.told[e])
		return null;
	return { node, e, level, state: run.state[node.pattern[e]], lo: node.lo[e], hi: node.hi[e],
		pattern: node.pattern[e], last: node.last[e], gfn: Math.floor(gfn / PAGES[level]) * PAGES[level] };
}

// From the top down to the entry that answers for this GFN.
function walk(run, tree, gfn) {
	const path = [];
	for (let level = 5; level >= 1; level--) {
		const entry = entryAt(run, tree, level, gfn);
		if (!entry)
			continue;
		path.push(entry);
		if (entry.state !== STATE.TABLE)
			break;
	}
	return path;
}

// What covers a whole 2 MiB cell: an entry of level 2 or above that is no table; null: look at level 1.
function coverOf(run, tree, gfn) {
	for (let level = 5; level >= 2; level--) {
		const node = nodeFor(run, tree, level, gfn);
		if (!node)
			continue;
		const e = entryFor(level, gfn);
		if (node.told[e] && run.state[node.pattern[e]] !== STATE.TABLE)
			return { level, state: run.state[node.pattern[e]] };
	}
	return null;
}

// Does every table above this node still point down to it?
function reachable(run, node) {
	for (let level = node.level + 1; level <= 5; level++) {
		const above = nodeFor(run, node.tree, level, node.base);
		const e = above && entryFor(level, node.base);
		if (above && above.told[e] && run.state[above.pattern[e]] !== STATE.TABLE)
			return false;
	}
	return true;
}

// Entries that a walk can reach, by level and state: held[level * 9 + state].
function heldBy(run, tree) {
	const held = new Int32Array(54);
	for (const node of run.nodes)
		if (node.tree === tree && reachable(run, node))
			for (let state = 1; state < 9; state++)
				held[node.level * 9 + state] += node.held[state];
	return held;
}

// ---- the page --------------------------------------------------------------------------------

const $ = id => document.getElementById(id);

function make(tag, properties, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(properties || {})) {
		if (name in element && name !== "list")
			element[name] = value;
		else
			element.setAttribute(name, value);
	}
	element.append(...children);
	return element;
}

const plain = n => n.toLocaleString("en-US");
const hexGpa = gfn => "0x" + (gfn * 4096).toString(16).padStart(8, "0");

function bytesText(bytes) {
	const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
	let u = 0;
	while (bytes >= 1024 && u < 5) {
		bytes /= 1024;
		u++;
	}
	return (bytes % 1 ? bytes.toFixed(1) : bytes) + " " + units[u];
}

function timeText(us) {
	return (us / 1e6).toFixed(6) + " s";
}

function costText(ns) {
	return ns >= 1e6 ? (ns / 1e6).toFixed(2) + " ms" : ns >= 1000 ? (ns / 1000).toFixed(1) + " µs" : ns + " ns";
}

let run, meta, panels = [], rows = [], columns = 8, zoomCell = null, windows = [], windowsAct = -1;
let cursor = null;	// {gfn, panel, pinned}
let playing = null, tab = null, colours = {};

const access = f => (f & 4 ? "r" : "") + (f & 2 ? "w" : "") + (f & 1 ? "x" : "");

// One line on an act, as plain text.
function actText(a) {
	const note = run.note[a] ? meta.strings[run.note[a] - 1] : "";
	if (run.kind[a] === 1) {
		const verbs = { 4: "reads", 2: "writes", 6: "writes", 1: "executes", 5: "executes" };
		const verb = verbs[run.flags[a] & 7] || "touches";
		let text = `vCPU ${run.vcpu[a] < 0 ? "?" : run.vcpu[a]}${run.flags[a] & 8 ? " (SMM)" : ""} ${verb} ` +
			`0x${(run.gfn[a] * 4096 + run.offset[a]).toString(16)}: ${meta.strings[run.outcome[a]]}`;
		if (run.retries[a])
			text += `, ${run.retries[a]} retries`;
		if (run.tables[a])
			text += `, ${run.tables[a]} tables linked`;
		if (run.external[a])
			text += `, ${run.external[a]} external calls`;
		if (run.cost[a])
			text += `, ${costText(run.cost[a])}`;
		return text + (note ? ` – ${note}` : "");
	}
	let text = EVENT_NAMES[run.outcome[a]];
	if (run.pages[a])
		text += ` ${hexGpa(run.gfn[a])} + ${bytesText(run.pages[a] * 4096)}`;
	if (run.external[a])
		text += `, ${plain(run.external[a])} external calls`;
	return text + (note ? ` – ${note}` : "") + (run.flags[a] & 16 ? " (ours)" : "");
}

function whereText(a) {
	return run.line[a] ? `line ${plain(run.line[a])}` : "no line";
}

// ---- which memory is shown -------------------------------------------------------------------

function touchedCells() {
	const cells = new Set();
	for (const node of run.nodes) {
		if (node.level > 3)
			continue;
		for (let e = 0; e < 512; e++) {
			if (!node.told[e] || !node.seen?.[e])
				continue;
			const cell = Math.floor((node.base + e * PAGES[node.level]) / 512);
			const n = node.level === 3 ? 512 : 1;
			for (let i = 0; i < n; i++)
				cells.add(cell + i);
		}
	}
	return cells;
}

// Marks every entry that ever is more than empty or frozen; a 1 GiB table alone shows nothing.
function markSeen() {
	const mark = (node, e, state) => {
		if (state === STATE.EMPTY || state === STATE.FROZEN || (state === STATE.TABLE && node.level > 2))
			return;
		node.seen ??= new Uint8Array(512);
		node.seen[e] = 1;
	};
	for (let c = 0; c < run.changes; c++) {
		const node = run.nodes[run.node[c]];
		mark(node, run.entry[c], run.state[run.pattern[c]]);
		if (run.wasLast[c] === NOT_TOLD && (run.wasLo[c] || run.wasHi[c]))
			mark(node, run.entry[c], run.state[run.wasPattern[c]]);
	}
}

function layoutRows(width) {
	const cells = run.cells;
	let total = cells.size;
	for (const region of meta.regions)
		total += Math.ceil((region[1] - region[0]) / 512);
	columns = total <= 1024 ? 8 : total <= 8192 ? 16 : 32;
	if (width / columns > 80 && columns < 32)
		columns *= 2;
	const found = new Set();
	for (const cell of cells)
		found.add(Math.floor(cell / columns));
	for (const [start, end] of meta.regions)
		for (let row = Math.floor(start / 512 / columns); row * columns * 512 < end && found.size < 1e6; row++)
			found.add(row);
	rows = [];
	let before = null;
	for (const row of [...found].sort((a, b) => a - b)) {
		if (before !== null && row > before + 1)
			rows.push({ gap: (row - before - 1) * columns * 512 });
		rows.push({ cell: row * columns });
		before = row;
	}
}

function isMemory(gfn) {
	return meta.regions.some(([start, end]) => gfn < end && gfn + 512 > start);
}

function regionsAt(gfn) {
	return [...new Set(meta.regions.filter(([start, end]) => gfn >= start && gfn < end)
		.map(region => region[3] + (region[2] ? " (read-only)" : "")))];
}

// Windows that are shared at this moment: conversions, in order, as ranges that don't overlap.
function updateWindows() {
	const act = run.position ? actAt(run, run.position - 1) : -1;
	if (act === windowsAct)
		return;
	windows = [];
	for (const a of run.conversions) {
		if (a > act)
			break;
		const start = run.gfn[a], end = start + run.pages[a];
		windows = windows.flatMap(([s, e]) => e <= start || s >= end ? [[s, e]] :
			[[s, Math.min(e, start)], [Math.max(s, end), e]].filter(w => w[0] < w[1]));
		if (run.outcome[a] === EVENT.TO_SHARED)
			windows.push([start, end]);
	}
	windowsAct = act;
}

const inWindow = (gfn, pages) => windows.some(([s, e]) => gfn < e && gfn + pages > s);

// ---- drawing ---------------------------------------------------------------------------------

function readColours() {
	const style = getComputedStyle(document.documentElement);
	const get = name => style.getPropertyValue("--" + name).trim();
	const pack = hex => {
		const n = parseInt(hex.slice(1), 16);
		return (0xff000000 | (n & 0xff) << 16 | (n & 0xff00) | n >> 16) >>> 0;
	};
	const names = { [STATE.RO]: "ro", [STATE.RW]: "rw", [STATE.ACCEPTED]: "ok", [STATE.PENDING]: "pend",
		[STATE.BLOCKED]: "block" };
	colours = { css: [], packed: [], get };
	for (let state = 0; state < 9; state++) {
		colours.css[state] = [];
		for (let level = 0; level < 6; level++) {
			const name = names[state] ? names[state] + Math.min(Math.max(level, 1), 3) :
				["empty", "table-only", "", "", "mmio", "", "", "", "frozen"][state];
			colours.css[state][level] = get(name);
		}
		colours.packed[state] = colours.css[state].map(pack);
	}
	for (const name of ["nowhere", "empty", "table-only", "window", "window-line", "ink", "dim", "line", "card",
		"accent", "mark", "changes", "faults"])
		colours[name] = get(name);
	colours.emptyPixel = pack(colours.empty);
	colours.tablePixel = pack(colours["table-only"]);
	colours.windowPixel = pack(colours.window);
}

function fitCanvas(canvas, width, height) {
	const ratio = window.devicePixelRatio || 1;
	const w = Math.round(width * ratio), h = Math.round(height * ratio);
	if (canvas.width !== w || canvas.height !== h) {
		canvas.width = w;
		canvas.height = h;
	}
	canvas.style.height = height + "px";
	const ctx = canvas.getContext("2d");
	ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
	return ctx;
}

// Colours of the 512 pages of a cell that nothing covers, as pixels.
// Returns the rare states among them, as bits: one dot is easily overlooked.
function pagePixels(tree, cell, cut, out, at, stride) {
	let rare = 0;
	const node = cut ? null : run.maps[tree][1].get(cell), table = !cut && coverable(tree, cell);
	const anyWindow = windows.length && inWindow(cell * 512, 512);
	for (let i = 0; i < 512; i++) {
		const state = node && node.told[i] ? run.state[node.pattern[i]] : STATE.EMPTY;
		let pixel;
		rare |= state === STATE.MMIO || state === STATE.BLOCKED ? 1 << state : 0;
		if (state !== STATE.EMPTY)
			pixel = colours.packed[state][1];
		else if (anyWindow && inWindow(cell * 512 + i, 1))
			pixel = colours.windowPixel;
		else
			pixel = table ? colours.tablePixel : colours.emptyPixel;
		out[at + (i >> 5) * stride + (i & 31)] = pixel;
	}
	return rare;
}

// Is there a table of 4 KiB entries under this cell?
function coverable(tree, cell) {
	const entry = entryAt(run, tree, 2, cell * 512);
	return entry ? entry.state === STATE.TABLE : run.maps[tree][1].has(cell);
}

const geometry = { label: 76, cell: 0, height: 0, gap: 1, page: 0, pageHeight: 0 };

function measure() {
	const panel = panels.find(p => p.canvas);
	const width = panel.box.clientWidth;
	layoutRows(width - geometry.label);
	const above = $("panels").getBoundingClientRect().top + window.scrollY;
	const space = Math.max(280, window.innerHeight - above - 70);
	const gaps = rows.filter(row => row.gap).length, room = width - geometry.label;
	geometry.cell = Math.floor(room / columns) - geometry.gap;
	const fitting = Math.floor((space - 20 * gaps) / (rows.length - gaps)) - geometry.gap;
	geometry.height = Math.max(Math.round(geometry.cell / 2), Math.min(fitting, Math.round(geometry.cell * 0.8)), 8);
	geometry.page = Math.floor(room / 32);
	geometry.pageHeight = Math.max(12, Math.min(30, Math.floor(space / 16)));
	let y = 0;
	for (const row of rows) {
		row.y = y;
		row.height = row.gap ? 20 : geometry.height + geometry.gap;
		y += row.height;
	}
	geometry.total = y;
	geometry.view = zoomCell === null ? Math.min(y, space) : 16 * geometry.pageHeight;
	for (const p of panels) {
		if (!p.canvas)
			continue;
		p.map.style.height = geometry.view + "px";
		p.spacer.style.height = Math.max(0, (zoomCell === null ? y : geometry.view) - geometry.view) + "px";
	}
}

function drawPanel(p) {
	const ctx = fitCanvas(p.canvas, p.box.clientWidth, geometry.view);
	ctx.clearRect(0, 0, p.box.clientWidth, geometry.view);
	ctx.font = `11px ${getComputedStyle($("place")).fontFamily}`;
	ctx.textBaseline = "middle";
	if (zoomCell === null)
		drawMemory(p, ctx);
	else
		drawCell(p, ctx);
	drawCursor(p, ctx);
}

function visibleRows(p) {
	const top = p.map.scrollTop;
	return rows.filter(row => row.y + row.height > top && row.y < top + geometry.view);
}

function drawMemory(p, ctx) {
	const shown = visibleRows(p), top = p.map.scrollTop, w = columns * 32;
	const image = new ImageData(w, Math.max(1, shown.length * 16)), pixels = new Uint32Array(image.data.buffer);
	const solid = [], corners = [];
	shown.forEach((row, n) => {
		if (row.gap)
			return;
		for (let i = 0; i < columns; i++) {
			const cell = row.cell + i, cover = coverOf(run, p.tree, cell * 512);
			if (cover && cover.state !== STATE.EMPTY)
				solid.push({ row, i, n, ...cover });
			else
				corners.push({ row, i, rare: pagePixels(p.tree, cell, cover, pixels, n * 16 * w + i * 32, w) });
		}
	});
	p.buffer.width = w;
	p.buffer.height = image.height;
	p.buffer.getContext("2d").putImageData(image, 0, 0);
	ctx.imageSmoothingEnabled = false;
	shown.forEach((row, n) => {
		const y = row.y - top;
		ctx.fillStyle = colours.dim;
		if (row.gap) {
			ctx.textAlign = "left";
			ctx.fillText(`⋮  ${bytesText(row.gap * 4096)} without memory`, geometry.label, y + row.height / 2);
			return;
		}
		if (geometry.height >= 12 || n % 2 === 0) {
			ctx.textAlign = "right";
			ctx.fillText(hexGpa(row.cell * 512), geometry.label - 8, y + geometry.height / 2);
		}
		for (let i = 0; i < columns; i++)
			drawPages(p, ctx, row, n, i, y);
	});
	for (const s of solid)
		drawSolid(ctx, s, s.row.y - top);
	for (const c of corners)
		if (c.rare)
			drawCorner(ctx, c, c.row.y - top);
	for (const row of shown)
		if (!row.gap && windows.length)
			drawWindows(ctx, row, row.y - top);
}

const cellX = i => geometry.label + i * (geometry.cell + geometry.gap);

function drawPages(p, ctx, row, n, i, y) {
	const cell = row.cell + i;
	if (!run.cells.has(cell) && !isMemory(cell * 512)) {
		ctx.strokeStyle = colours.line;
		ctx.strokeRect(cellX(i) + .5, y + .5, geometry.cell - 1, geometry.height - 1);
		return;
	}
	ctx.drawImage(p.buffer, i * 32, n * 16, 32, 16, cellX(i), y, geometry.cell, geometry.height);
}

// A large page is one block with a frame: its size can be told without its colour.
function drawSolid(ctx, s, y) {
	const x = cellX(s.i), inset = s.level === 3 ? 5.5 : 3.5;
	ctx.fillStyle = colours.css[s.state][s.level];
	ctx.fillRect(x, y, geometry.cell, geometry.height);
	if (geometry.height < 14 || s.state === STATE.FROZEN)
		return;
	ctx.strokeStyle = colours.card;
	ctx.globalAlpha = .55;
	ctx.strokeRect(x + inset, y + inset, geometry.cell - 2 * inset, geometry.height - 2 * inset);
	if (s.state === STATE.BLOCKED) {
		ctx.beginPath();
		ctx.moveTo(x + inset, y + geometry.height - inset);
		ctx.lineTo(x + geometry.cell - inset, y + inset);
		ctx.stroke();
	}
	ctx.globalAlpha = 1;
}

function drawCorner(ctx, c, y) {
	const state = c.rare & 1 << STATE.BLOCKED ? STATE.BLOCKED : STATE.MMIO, x = cellX(c.i) + geometry.cell;
	ctx.fillStyle = colours.css[state][2];
	ctx.beginPath();
	ctx.moveTo(x - 9, y);
	ctx.lineTo(x, y);
	ctx.lineTo(x, y + 9);
	ctx.fill();
}

function drawWindows(ctx, row, y) {
	ctx.strokeStyle = colours["window-line"];
	ctx.lineWidth = 2;
	ctx.setLineDash([4, 3]);
	for (let i = 0; i < columns; i++)
		if (inWindow((row.cell + i) * 512, 512))
			ctx.strokeRect(cellX(i) + 1, y + 1, geometry.cell - 2, geometry.height - 2);
	ctx.setLineDash([]);
	ctx.lineWidth = 1;
}

// One cell's 512 pages.
function drawCell(p, ctx) {
	const cover = coverOf(run, p.tree, zoomCell * 512), node = run.maps[p.tree][1].get(zoomCell);
	const table = !cover && coverable(p.tree, zoomCell), w = geometry.page - 1, h = geometry.pageHeight - 1;
	for (let i = 0; i < 512; i++) {
		const gfn = zoomCell * 512 + i, x = geometry.label + (i & 31) * geometry.page, y = (i >> 5) * geometry.pageHeight;
		const state = cover ? cover.state : node && node.told[i] ? run.state[node.pattern[i]] : STATE.EMPTY;
		const shared = windows.length && inWindow(gfn, 1);
		if (state !== STATE.EMPTY)
			ctx.fillStyle = colours.css[state][cover ? cover.level : 1];
		else
			ctx.fillStyle = shared ? colours.window : table ? colours["table-only"] : colours.empty;
		ctx.fillRect(x, y, cover && state !== STATE.EMPTY ? geometry.page : w, cover && state !== STATE.EMPTY ? h + 1 : h);
		if (shared) {
			ctx.fillStyle = colours["window-line"];
			ctx.fillRect(x, y + h - 2, w, 2);
		}
		if (state === STATE.BLOCKED || state === STATE.PENDING) {
			ctx.fillStyle = colours.card;
			ctx.fillRect(x + w / 2 - 1, y + h / 2 - 1, 3, state === STATE.BLOCKED ? 5 : 3);
		}
		if (!(i & 31)) {
			ctx.fillStyle = colours.dim;
			ctx.textAlign = "right";
			ctx.fillText(hexGpa(gfn), geometry.label - 8, y + h / 2);
		}
	}
}

function cursorBox(p) {
	if (!cursor)
		return null;
	if (zoomCell !== null) {
		const i = cursor.gfn - zoomCell * 512;
		if (i < 0 || i > 511)
			return null;
		return { x: geometry.label + (i & 31) * geometry.page, y: (i >> 5) * geometry.pageHeight,
			w: geometry.page - 1, h: geometry.pageHeight - 1 };
	}
	const cell = Math.floor(cursor.gfn / 512);
	const row = rows.find(r => !r.gap && cell >= r.cell && cell < r.cell + columns);
	return row && { x: cellX(cell - row.cell), y: row.y - p.map.scrollTop, w: geometry.cell, h: geometry.height,
		row };
}

function drawCursor(p, ctx) {
	const box = cursorBox(p);
	if (!box)
		return;
	ctx.strokeStyle = colours.mark;
	ctx.lineWidth = 2;
	ctx.strokeRect(box.x - .5, box.y - .5, box.w + 1, box.h + 1);
	ctx.lineWidth = 1;
}

function drawHolds(p) {
	const held = heldBy(run, p.tree), parts = [];
	const sum = (level, ...states) => states.reduce((n, s) => n + held[level * 9 + s], 0);
	for (const [level, name] of [[1, "4K"], [2, "2M"], [3, "1G"]]) {
		const n = sum(level, STATE.RO, STATE.RW, STATE.ACCEPTED, STATE.PENDING);
		if (n)
			parts.push([n, "× " + name]);
	}
	const pending = sum(1, STATE.PENDING) + sum(2, STATE.PENDING) + sum(3, STATE.PENDING);
	const blocked = sum(1, STATE.BLOCKED) + sum(2, STATE.BLOCKED) + sum(3, STATE.BLOCKED);
	const readOnly = sum(1, STATE.RO) + sum(2, STATE.RO) + sum(3, STATE.RO), mmio = sum(1, STATE.MMIO);
	const tables = [2, 3, 4, 5].reduce((n, level) => n + sum(level, STATE.TABLE), 0);
	for (const [n, name] of [[readOnly, "read-only"], [pending, "pending"], [blocked, "blocked"], [mmio, "MMIO"],
		[tables, tables === 1 ? "table linked" : "tables linked"]])
		if (n)
			parts.push([n, name]);
	p.holds.replaceChildren(...(parts.length ? parts.flatMap(([n, name], i) =>
		[i ? " · " : "", make("b", {}, plain(n)), " " + name]) : ["empty"]));
}

let drawAsked = false;

function draw() {
	if (drawAsked)
		return;
	drawAsked = true;
	requestAnimationFrame(() => {
		drawAsked = false;
		drawNow();
	});
}

function drawNow() {
	updateWindows();
	for (const p of panels) {
		if (!p.canvas)
			continue;
		drawPanel(p);
		drawHolds(p);
	}
	drawTime();
	drawTip();
}

// ---- time ------------------------------------------------------------------------------------

function drawTime() {
	const position = run.position, slider = $("slider");
	slider.value = position;
	const part = run.steps ? position / run.steps : 0, width = $("strip-box").clientWidth;
	$("head").style.left = 8 + part * (width - 16) + "px";
	const bits = [make("b", {}, plain(position)), ` of ${plain(run.steps)} · `];
	if (!position || !run.acts) {
		bits.push("before the first line");
	} else {
		const a = actAt(run, position - 1), c = position - 1 - (run.first[a] + a);
		bits.push(`${whereText(a)} · ${timeText(run.time[a])} · `, make("b", {}, actText(a)));
		if (c && run.count[a] > 1)
			bits.push(` · change ${plain(c)} of ${plain(run.count[a])}`);
	}
	const now = $("now");
	now.replaceChildren(...bits);
	now.title = now.textContent;
	slider.setAttribute("aria-valuetext", now.textContent);
}

function drawStrip() {
	const canvas = $("strip"), width = canvas.clientWidth, height = 40, inner = Math.max(1, Math.floor(width - 16));
	const ctx = fitCanvas(canvas, width, height), faults = new Uint32Array(inner), changes = new Uint32Array(inner);
	const bin = s => Math.min(inner - 1, Math.floor(s / run.steps * inner));
	for (let a = 0; a < run.acts; a++) {
		const s = run.first[a] + a;
		if (run.kind[a] === 1)
			faults[bin(s)]++;
		for (let i = 1; i <= run.count[a]; i++)
			changes[bin(s + i)]++;
	}
	ctx.clearRect(0, 0, width, height);
	const most = Math.max(1, run.steps / inner);
	for (let x = 0; x < inner; x++) {
		const c = Math.min(1, changes[x] / most) * 26, f = Math.min(1, faults[x] / most) * 26;
		ctx.fillStyle = colours.changes;
		ctx.fillRect(8 + x, 28 - c, 1, c);
		ctx.fillStyle = colours.faults;
		ctx.fillRect(8 + x, 28 - f, 1, f);
	}
	const marks = { [EVENT.ZAP_ALL]: "block2", [EVENT.TO_SHARED]: "window-line", [EVENT.TO_PRIVATE]: "window-line",
		[EVENT.NOTIFIER]: "ro2", [EVENT.TEARDOWN]: "frozen", [EVENT.DIRTY_LOG]: "mmio", [EVENT.SLOTS]: "dim" };
	for (let a = 0; a < run.acts; a++) {
		if (run.kind[a] === 1 || !marks[run.outcome[a]])
			continue;
		ctx.fillStyle = colours.get(marks[run.outcome[a]]);
		ctx.fillRect(7 + bin(run.first[a] + a), 31, 2, 8);
	}
}

function goTo(position) {
	seek(run, Math.max(0, Math.min(run.steps, Math.round(position))));
	draw();
	saveHash();
}

// The next or previous act after its last change; with events, only such acts.
function stepAct(direction, events) {
	let a = run.position ? actAt(run, run.position - 1) : -1;
	if (direction < 0 && a >= 0 && run.position > endOfAct(run, a))
		a++;
	for (a += direction; a >= 0 && a < run.acts; a += direction)
		if (!events || (run.kind[a] === 2 && run.outcome[a] !== EVENT.ACCEPT && run.outcome[a] !== EVENT.BUILD))
			return goTo(endOfAct(run, a));
	goTo(direction < 0 ? 0 : run.steps);
}

function stop() {
	if (playing)
		cancelAnimationFrame(playing.frame);
	playing = null;
	$("play").textContent = "▶";
	$("play").setAttribute("aria-label", "Play");
}

function play() {
	if (playing)
		return stop();
	if (run.position >= run.steps)
		goTo(0);
	playing = { from: run.position, start: performance.now(), frame: 0 };
	$("play").textContent = "❚❚";
	$("play").setAttribute("aria-label", "Pause");
	const tick = now => {
		const speed = run.steps / (Number($("speed").value) * 1000);
		const to = playing.from + Math.max(0, now - playing.start) * speed;
		goTo(to);
		if (to >= run.steps)
			return stop();
		playing.frame = requestAnimationFrame(tick);
	};
	playing.frame = requestAnimationFrame(tick);
}

// ---- what is under the pointer ---------------------------------------------------------------

function fieldValue(word, high, low) {
	return (word >> BigInt(low)) & ((1n << BigInt(high - low + 1)) - 1n);
}

function decodingRows(entry) {
	const pattern = run.patterns[entry.pattern], word = BigInt("0x" + hex64(entry.hi, entry.lo)), set = [], clear = [];
	for (const [high, low, name, meaning, source] of pattern.fields) {
		const value = fieldValue(word, high, low);
		const row = make("tr", { className: value ? "" : "zero", title: meta.strings[source] },
			make("td", {}, high === low ? String(high) : `${high}:${low}`),
			make("td", {}, meta.strings[name]),
			make("td", {}, high === low ? String(value) : "0x" + value.toString(16)),
			make("td", {}, meta.strings[meaning]));
		(value ? set : clear).push(row);
	}
	if (set.length + clear.length <= 9)
		return [...set, ...clear];
	if (clear.length)
		set.push(make("tr", { className: "zero" }, make("td", {}, "clear"), make("td", { colSpan: 3 },
			clear.map(row => row.children[1].textContent).join(", "))));
	return set;
}

function cellSummary(tree, cell) {
	const counts = new Map(), node = run.maps[tree][1].get(cell);
	for (let i = 0; i < 512; i++) {
		const state = node && node.told[i] ? run.state[node.pattern[i]] : STATE.EMPTY;
		counts.set(state, (counts.get(state) || 0) + 1);
	}
	return [...counts].sort((a, b) => b[1] - a[1]).map(([s, n]) => `${n} ${STATE_NAMES[s]}`).join(", ");
}

function chip(state, level) {
	const i = make("i", { className: "chip" });
	i.style.background = colours.css[state][level];
	return i;
}

function historyText(entry) {
	if (entry.last === NOT_TOLD)
		return "unchanged since before the run";
	let n = 0;
	for (let c = entry.last; c !== NOT_TOLD; c = run.wasLast[c])
		n++;
	const a = actOfChange(run, entry.last);
	return `since ${whereText(a)} (step ${plain(entry.last + a + 2)}): ${actText(a)}` +
		(run.cflags[entry.last] & 16 ? "; went with its table" : "") + (n > 1 ? `; change number ${n}` : "");
}

function tipContent(p, gfn) {
	const path = walk(run, p.tree, gfn), entry = path[path.length - 1], regions = regionsAt(gfn);
	const head = `${TREE_NAMES[p.tree]} · ${hexGpa(gfn)}` + (regions.length ? ` · ${regions.join(", ")}` : "");
	const parts = [];
	if (!entry) {
		parts.push(make("h4", {}, chip(STATE.EMPTY, 1), head),
			make("p", {}, "No entry of this tree was ever told for this address."));
	} else {
		parts.push(make("h4", {}, chip(entry.state, entry.level), head),
			make("p", {}, `${SIZE_NAMES[entry.level]} entry: ${meta.strings[run.patterns[entry.pattern].kind]}` +
				` (${FORMAT_NAMES[run.patterns[entry.pattern].format]}), ${hexGpa(entry.gfn)} – ` +
				`${hexGpa(entry.gfn + PAGES[entry.level] - 1).slice(0, -3)}fff`),
			make("p", {}, historyText(entry)));
		parts.push(make("table", { className: "walk" }, ...path.map(e => make("tr", { className: e === entry ? "here" : "" },
			make("td", {}, "L" + e.level), make("td", {}, "0x" + hex64(e.hi, e.lo)),
			make("td", {}, STATE_NAMES[e.state])))));
		parts.push(make("table", { className: "walk" }, ...decodingRows(entry)));
		const told = run.toldOld.get(entry.last);
		if (told)
			parts.push(make("p", {}, `That change was told with another old word: 0x${told}.`));
	}
	if (zoomCell === null && (!entry || entry.level === 1 || entry.state === STATE.TABLE))
		parts.push(make("p", {}, `2 MiB cell: ${cellSummary(p.tree, Math.floor(gfn / 512))}`));
	if (inWindow(gfn, 1))
		parts.push(make("p", {}, "Inside a window that is shared now."));
	return parts;
}

function drawTip() {
	const tip = $("tip");
	if (!cursor || playing) {
		tip.hidden = true;
		return;
	}
	const box = cursorBox(cursor.panel);
	if (!box || box.y + box.h < 0 || box.y > geometry.view) {
		tip.hidden = true;
		return;
	}
	tip.replaceChildren(...tipContent(cursor.panel, cursor.gfn));
	tip.hidden = false;
	const origin = cursor.panel.canvas.getBoundingClientRect(), size = tip.getBoundingClientRect();
	const x = origin.left + box.x, y = origin.top + box.y, margin = 8;
	let left = x + box.w + 14, top = y + box.h + 10;
	if (left + size.width > innerWidth - margin)
		left = Math.max(margin, x - size.width - 14);
	if (top + size.height > innerHeight - margin)
		top = Math.max(margin, innerHeight - size.height - margin);
	tip.style.left = left + "px";
	tip.style.top = top + "px";
	if (cursor.keyboard)
		$("say").textContent = tip.querySelector("h4").textContent + ". " + (tip.querySelector("p")?.textContent || "");
}

function gfnAt(p, x, y) {
	if (zoomCell !== null) {
		const column = Math.floor((x - geometry.label) / geometry.page), row = Math.floor(y / geometry.pageHeight);
		return column < 0 || column > 31 || row < 0 || row > 15 ? null : zoomCell * 512 + row * 32 + column;
	}
	const at = y + p.map.scrollTop, row = rows.find(r => at >= r.y && at < r.y + r.height);
	const column = Math.floor((x - geometry.label) / (geometry.cell + geometry.gap));
	if (!row || row.gap || column < 0 || column >= columns)
		return null;
	const px = Math.min(31, Math.max(0, Math.floor((x - cellX(column)) / geometry.cell * 32)));
	const py = Math.min(15, Math.max(0, Math.floor((at - row.y) / geometry.height * 16)));
	return (row.cell + column) * 512 + py * 32 + px;
}

function setCursor(p, gfn, how) {
	cursor = gfn === null ? null : { panel: p, gfn, ...how };
	draw();
}

function showCursor() {
	if (!cursor || zoomCell !== null)
		return;
	const box = cursorBox(cursor.panel);
	if (!box)
		return;
	const map = cursor.panel.map;
	if (box.y < 0 || box.y + box.h > geometry.view)
		map.scrollTop += box.y - geometry.view / 2;
}

function zoom(cell) {
	zoomCell = cell;
	$("out").disabled = cell === null;
	$("place").textContent = cell === null ? "cell 2 MiB, dot 4 KiB" :
		`› ${hexGpa(cell * 512)} – ${hexGpa(cell * 512 + 511).slice(0, -3)}fff`;
	$("out").textContent = cell === null ? "All memory:" : "All memory";
	measure();
	draw();
	saveHash();
}

function panelKey(event, p) {
	const wide = zoomCell === null ? [512, 512 * columns] : [1, 32];
	const moves = { ArrowLeft: -wide[0], ArrowRight: wide[0], ArrowUp: -wide[1], ArrowDown: wide[1] };
	const here = cursor ? cursor.gfn : zoomCell === null ? (rows[0]?.cell ?? 0) * 512 : zoomCell * 512;
	if (moves[event.key]) {
		let gfn = cursor ? here + moves[event.key] : here;
		if (zoomCell === null)
			gfn = nearestShown(gfn, moves[event.key]);
		else
			gfn = Math.max(zoomCell * 512, Math.min(zoomCell * 512 + 511, gfn));
		setCursor(p, gfn, { pinned: true, keyboard: true });
		showCursor();
		saveHash();
	} else if (event.key === "Enter" && zoomCell === null && cursor) {
		zoom(Math.floor(cursor.gfn / 512));
	} else {
		return;
	}
	event.preventDefault();
	event.stopPropagation();
}

// Rows with gaps between them: the next shown place in this direction.
function nearestShown(gfn, direction) {
	const cell = Math.floor(gfn / 512), shown = rows.filter(r => !r.gap);
	const hit = shown.find(r => cell >= r.cell && cell < r.cell + columns);
	if (hit)
		return gfn;
	const column = ((cell % columns) + columns) % columns;
	const row = direction > 0 ? shown.find(r => r.cell > cell) : shown.filter(r => r.cell < cell).pop();
	return row ? (row.cell + column) * 512 : cursor.gfn;
}

// ---- panels ----------------------------------------------------------------------------------

const ABSENT = {
	mirror: ["Mirror", "An ordinary VM has none. A TD's private memory is mapped by tables that the processor " +
		"walks but the host can't read; the mirror is the host's own copy of them, entry by entry."],
	external: ["External", "An ordinary VM has none. In a TD these are the Secure EPT inside the TDX module: " +
		"changed only by calls, one for each change of the mirror, and by the guest when it accepts a page."],
	smm: ["Direct, address space 1", "Nothing in this run was done in system-management mode."],
};

function absentPanel(keys) {
	const box = make("div", { className: "panel absent" });
	for (const key of keys)
		box.append(make("h3", {}, ABSENT[key][0]), make("p", {}, ABSENT[key][1]));
	return { box };
}

function treePanel(tree, title, subtitle) {
	const p = { tree, buffer: document.createElement("canvas") };
	p.canvas = make("canvas", { tabIndex: 0, role: "application", "aria-label":
		`${title}: map of guest memory. Arrow keys move, Enter shows the 512 pages of a cell, Escape goes back.` });
	p.spacer = make("div", {});
	p.box = make("div", {});
	p.map = make("div", { className: "map" }, p.canvas, p.spacer);
	p.holds = make("div", { className: "holds" });
	p.box.append(p.map);
	p.element = make("section", { className: "panel", "aria-label": title },
		make("h3", {}, title, make("span", {}, subtitle)), p.holds, p.box);
	p.canvas.addEventListener("pointermove", e => {
		if (!cursor?.pinned)
			setCursor(p, gfnAt(p, e.offsetX, e.offsetY), {});
	});
	p.canvas.addEventListener("pointerleave", () => cursor?.pinned || setCursor(p, null));
	p.canvas.addEventListener("click", e => {
		const gfn = gfnAt(p, e.offsetX, e.offsetY);
		if (zoomCell === null && gfn !== null) {
			cursor = null;
			return zoom(Math.floor(gfn / 512));
		}
		setCursor(p, gfn, { pinned: gfn !== null && !cursor?.pinned });
		saveHash();
	});
	p.canvas.addEventListener("keydown", e => panelKey(e, p));
	p.map.addEventListener("scroll", () => {
		for (const other of panels)
			if (other.map && other.map.scrollTop !== p.map.scrollTop)
				other.map.scrollTop = p.map.scrollTop;
		draw();
	});
	return p;
}

function makePanels() {
	const has = tree => run.nodes.some(n => n.tree === tree);
	if (meta.vm === "td") {
		panels = [treePanel(0, "Direct", "shared memory, MMIO"), treePanel(2, "Mirror", "private, the host's copy"),
			treePanel(3, "External", "private, in the TDX module")];
	} else {
		panels = [treePanel(0, "Direct", "address space 0")];
		if (has(1))
			panels.push(treePanel(1, "Direct", "address space 1: system-management mode"));
		panels.push(absentPanel(has(1) ? ["mirror", "external"] : ["smm", "mirror", "external"]));
	}
	$("panels").style.gridTemplateColumns = panels.map(p => p.canvas ? "minmax(0, 1fr)" : "minmax(200px, 24%)").join(" ");
	$("panels").replaceChildren(...panels.map(p => p.element || p.box));
}

function makeLegend() {
	const items = [["empty", ["empty"]], ["table only", ["table-only"]], ["writable 4K 2M 1G", ["rw1", "rw2", "rw3"]],
		["read-only", ["ro1", "ro2", "ro3"]], ["MMIO", ["mmio"]]];
	if (meta.vm === "td")
		items.push(["pending", ["pend1", "pend2", "pend3"]], ["accepted", ["ok1", "ok2", "ok3"]],
			["blocked", ["block1", "block2", "block3"]], ["shared window", null]);
	items.push(["frozen", ["frozen"]]);
	$("legend").replaceChildren(...items.map(([name, names]) => {
		const item = make("li", {});
		for (const colour of names || [null]) {
			const i = make("i", {});
			if (colour)
				i.style.background = `var(--${colour})`;
			else
				i.className = "frame";
			item.append(i);
		}
		item.append(" " + name);
		return item;
	}));
}

// ---- tables ----------------------------------------------------------------------------------

const LIMIT = 200;
// The greatest by key, in one pass over all acts or entries.
function greatest(n, key, filter = () => true) {
	const list = [];
	for (let i = 0; i < n; i++)
		if (filter(i) && key(i) > 0)
			list.push(i);
	return list.sort((a, b) => key(b) - key(a) || a - b).slice(0, LIMIT);
}

const stepLink = a => ({ text: plain(stepOfAct(run, a)), step: endOfAct(run, a),
	gfn: run.kind[a] === 1 || run.pages[a] ? run.gfn[a] : null, sort: stepOfAct(run, a) });
const faultColumns = ["step", "line", "vCPU", "address", "access", "outcome", "retries", "tables", "calls", "changes",
	"slot", "time", "note"];
const faultRow = a => [stepLink(a), run.line[a], run.vcpu[a], "0x" + (run.gfn[a] * 4096 + run.offset[a]).toString(16),
	access(run.flags[a]) + " " + meta.strings[run.code[a]], meta.strings[run.outcome[a]], run.retries[a], run.tables[a],
	run.external[a], run.count[a], run.slot[a] < 0 ? "none" : run.slot[a],
	run.cost[a] ? { text: costText(run.cost[a]), sort: run.cost[a] } : "", run.note[a] ? meta.strings[run.note[a] - 1] : ""];
const eventRow = a => [stepLink(a), run.line[a], EVENT_NAMES[run.outcome[a]], run.pages[a] ? hexGpa(run.gfn[a]) : "all",
	run.pages[a] ? { text: bytesText(run.pages[a] * 4096), sort: run.pages[a] } : "", run.count[a], run.external[a],
	run.flags[a] & 16 ? "ours" : "trace", run.note[a] ? meta.strings[run.note[a] - 1] : ""];
const eventColumns = ["step", "line", "event", "address", "size", "changes", "calls", "from", "text"];

function faultedPages() {
	const pages = new Map();
	for (let a = 0; a < run.acts; a++) {
		if (run.kind[a] !== 1)
			continue;
		const p = pages.get(run.gfn[a]) || { n: 0, last: 0, outcomes: new Map() };
		const outcome = meta.strings[run.outcome[a]];
		p.n++;
		p.last = a;
		p.outcomes.set(outcome, (p.outcomes.get(outcome) || 0) + 1);
		pages.set(run.gfn[a], p);
	}
	return [...pages].filter(([, p]) => p.n > 1).sort((x, y) => y[1].n - x[1].n).slice(0, LIMIT).map(([gfn, p]) =>
		[{ ...stepLink(p.last), text: plain(stepOfAct(run, p.last)) }, hexGpa(gfn), p.n,
			[...p.outcomes].map(([o, n]) => `${o} ${plain(n)}`).join(", "), regionsAt(gfn).join(", ") || "no memory"]);
}

function changedEntries() {
	const counts = new Map();
	for (let c = 0; c < run.changes; c++) {
		const key = run.node[c] * 512 + run.entry[c], entry = counts.get(key) || { n: 0, last: 0 };
		entry.n++;
		entry.last = c;
		counts.set(key, entry);
	}
	return [...counts].sort((x, y) => y[1].n - x[1].n).slice(0, LIMIT).map(([key, entry]) => {
		const node = run.nodes[Math.floor(key / 512)], a = actOfChange(run, entry.last);
		const gfn = node.base + key % 512 * PAGES[node.level];
		return [{ ...stepLink(a), gfn, tree: node.tree }, TREE_NAMES[node.tree], hexGpa(gfn), SIZE_NAMES[node.level],
			entry.n, actText(a)];
	});
}

function oddActs() {
	const odd = [];
	const add = (a, why) => odd.push([stepLink(a), run.line[a], why, actText(a)]);
	for (let a = 0; a < run.acts && odd.length < LIMIT; a++) {
		if (run.flags[a] & 32)
			add(a, "differs from the recording");
		else if (run.kind[a] === 1 && run.note[a])
			add(a, "noted");
	}
	for (const c of run.toldOld.keys()) {
		if (odd.length >= 2 * LIMIT)
			break;
		add(actOfChange(run, c), `old word told as 0x${run.toldOld.get(c)}, was 0x${hex64(run.wasHi[c], run.wasLo[c])}`);
	}
	return odd;
}

const isFault = a => run.kind[a] === 1, isEvent = a => run.kind[a] === 2;
const TABLES = [
	{ id: "slow", name: "Slowest faults", columns: faultColumns, why: "By the time the library took or, where no time was " +
		"measured, by work: tables linked, entries changed, calls to the external table, retries.",
		rows: () => {
			const timed = run.cost.some((cost, a) => cost && isFault(a));
			return greatest(run.acts, timed ? a => run.cost[a] :
				a => run.retries[a] * 100 + run.external[a] * 10 + run.tables[a] * 5 + run.count[a], isFault).map(faultRow);
		} },
	{ id: "retry", name: "Faults with retries", columns: faultColumns, why: "Faults that had to be tried again: the world " +
		"changed under them, or the external table was busy.",
		rows: () => greatest(run.acts, a => run.retries[a], isFault).map(faultRow) },
	{ id: "pages", name: "Most-faulted pages", columns: ["step", "page", "faults", "outcomes", "memory"],
		why: "Pages that faulted more than once; the step is the last time.", rows: faultedPages },
	{ id: "entries", name: "Most-changed entries", columns: ["step", "tree", "address", "covers", "changes", "the last one"],
		why: "Entries by the number of their changes; the step is the last one.", rows: changedEntries },
	{ id: "zaps", name: "Largest zaps", columns: eventColumns, why: "Events by the number of entries that they changed.",
		rows: () => greatest(run.acts, a => run.count[a], isEvent).map(eventRow) },
	{ id: "calls", name: "Longest external sequences", columns: ["step", "line", "what", "calls", "changes", "from"],
		why: "Faults and events by the number of calls to the external table that they needed.",
		rows: () => greatest(run.acts, a => run.external[a]).map(a => [stepLink(a), run.line[a], actText(a),
			run.external[a], run.count[a], run.flags[a] & 16 ? "ours" : "trace"]) },
	{ id: "odd", name: "Oddities", columns: ["step", "line", "why", "what"], why: "Faults with a note, differences from the " +
		"recording, and changes whose old word is not what the report's own books say.", rows: oddActs },
	{ id: "events", name: "Events", columns: eventColumns, why: "Events in their order, accepts and pages added at build " +
		"left out.", rows: () => {
			const list = [];
			for (let a = 0; a < run.acts && list.length < 5 * LIMIT; a++)
				if (isEvent(a) && run.outcome[a] !== EVENT.ACCEPT && run.outcome[a] !== EVENT.BUILD)
					list.push(a);
			return list.map(eventRow);
		} },
];

const sortKey = cell => typeof cell === "object" ? cell.sort : cell;

function cellElement(cell, numeric) {
	const td = make("td", { className: numeric ? "n" : String(cell).length > 48 ? "wide" : "" });
	if (cell && typeof cell === "object" && "step" in cell) {
		const tree = cell.tree ?? panels[meta.vm === "td" ? 1 : 0].tree;
		const at = cell.gfn === null ? "" : `&at=${tree}:${hexGpa(cell.gfn)}`;
		td.append(make("a", { href: `#t=${cell.step}${at}` }, cell.text));
	} else {
		td.append(cell && typeof cell === "object" ? cell.text : typeof cell === "number" ? plain(cell) : cell);
	}
	return td;
}

function showTable(id, sorted) {
	tab = TABLES.find(t => t.id === id) || TABLES[0];
	tab.data ??= tab.rows();
	for (const button of $("tabs").children) {
		button.setAttribute("aria-selected", button.dataset.id === tab.id);
		button.tabIndex = button.dataset.id === tab.id ? 0 : -1;
	}
	$("why").textContent = tab.why + (tab.data.length >= LIMIT ? ` The first ${tab.data.length} of them.` : "");
	if (!tab.data.length)
		return $("table-box").replaceChildren(make("p", { className: "none" }, "None in this run."));
	const data = [...tab.data];
	if (sorted) {
		data.sort((x, y) => {
			const a = sortKey(x[sorted.column]), b = sortKey(y[sorted.column]);
			const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
			return sorted.down ? -order : order;
		});
	}
	const numeric = tab.columns.map((_, i) => data.every(row => typeof sortKey(row[i]) === "number"));
	const head = make("tr", {}, ...tab.columns.map((name, i) => {
		const down = sorted?.column === i ? !sorted.down : numeric[i];
		const mark = sorted?.column === i ? (sorted.down ? " ▾" : " ▴") : "";
		return make("th", { className: numeric[i] ? "n" : "", "aria-sort": sorted?.column === i ?
			(sorted.down ? "descending" : "ascending") : "none" },
		make("button", { type: "button", onclick: () => showTable(tab.id, { column: i, down }) }, name + mark));
	}));
	$("table-box").replaceChildren(make("table", {}, make("thead", {}, head),
		make("tbody", {}, ...data.map(row => make("tr", {}, ...row.map((cell, i) => cellElement(cell, numeric[i])))))));
}

function makeTabs() {
	const tables = TABLES.filter(t => t.id !== "calls" || meta.vm === "td");
	$("tabs").replaceChildren(...tables.map(t => make("button", { type: "button", role: "tab", "data-id": t.id,
		onclick: () => {
			showTable(t.id);
			saveHash();
		} }, t.name)));
	$("tabs").addEventListener("keydown", e => {
		const step = { ArrowRight: 1, ArrowLeft: -1 }[e.key], list = [...$("tabs").children];
		if (!step)
			return;
		const next = list[(list.indexOf(document.activeElement) + step + list.length) % list.length];
		next.click();
		next.focus();
		e.preventDefault();
		e.stopPropagation();
	});
}

// ---- summary ---------------------------------------------------------------------------------

function outcomeCounts() {
	const counts = new Map();
	for (let a = 0; a < run.acts; a++) {
		const group = run.kind[a] === 1 ? "Faults shown here, by outcome" : "Events shown here";
		const name = run.kind[a] === 1 ? meta.strings[run.outcome[a]] : EVENT_NAMES[run.outcome[a]];
		const key = group + "\n" + name;
		counts.set(key, (counts.get(key) || 0) + 1);
	}
	return [...counts].sort((a, b) => b[1] - a[1]).map(([key, n]) => [...key.split("\n"), n]);
}

function makeSummary() {
	const groups = new Map();
	for (const [group, name, value] of [...meta.counters, ...outcomeCounts()])
		groups.set(group, [...(groups.get(group) || []), [name, value]]);
	$("counters").replaceChildren(...[...groups].map(([group, list]) => make("div", { className: "group" },
		make("h3", {}, group), make("table", {}, ...list.map(([name, value]) =>
			make("tr", {}, make("td", {}, name), make("td", { className: "n" }, plain(value))))))));
	$("facts").textContent = `${plain(meta.faults)} faults, ${plain(meta.events)} events, ${plain(meta.changes)} changed entries`;
	$("vm").textContent = { npt: "VM on NPT", ept: "VM on EPT", td: "TD" }[meta.vm];
	const notes = [...meta.notes];
	if (meta.lost[0])
		notes.unshift(`Only the first part of the run is shown: from line ${plain(meta.lost[2])} on, ${plain(meta.lost[0])} ` +
			`faults and events with ${plain(meta.lost[1])} changes did not fit into this file.`);
	$("notes").replaceChildren(...notes.map(text => make("p", { className: "note" }, text)));
	$("foot").textContent = `Written by triptych ${meta.version}. ${meta.timeNote} Keys: space plays, , and . go by faults ` +
		"and events, [ and ] by events, F to the fullest moment, D changes the colours; the address of this page is a permalink.";
}

// ---- permalinks, theme, keys -----------------------------------------------------------------

let saveTimer = null, ownHash = "";

function saveHash() {
	if (playing)
		return;
	clearTimeout(saveTimer);
	saveTimer = setTimeout(() => {
		const parts = ["t=" + run.position];
		if (zoomCell !== null)
			parts.push("zoom=" + hexGpa(zoomCell * 512));
		if (cursor?.pinned)
			parts.push(`at=${cursor.panel.tree}:${hexGpa(cursor.gfn)}`);
		if (tab && tab !== TABLES[0])
			parts.push("table=" + tab.id);
		ownHash = "#" + parts.join("&");
		history.replaceState(null, "", ownHash);
	}, 200);
}

function loadHash() {
	const options = new URLSearchParams(location.hash.slice(1));
	const step = options.get("t"), at = /^(\d):(0x[0-9a-fA-F]+)$/.exec(options.get("at") || "");
	const gpa = /^0x[0-9a-fA-F]+$/.test(options.get("zoom") || "") ? parseInt(options.get("zoom"), 16) : null;
	const part = /^(\d+(\.\d+)?)%$/.exec(step || "");
	if (options.get("theme"))
		setTheme(options.get("theme") === "dark");
	seek(run, part ? Math.round(Math.min(100, Number(part[1])) / 100 * run.steps) :
		/^\d+$/.test(step || "") ? Math.min(run.steps, Number(step)) : run.fullest);
	cursor = null;
	zoom(gpa === null ? null : Math.floor(gpa / 4096 / 512));
	const p = at && (panels.find(q => q.canvas && q.tree === Number(at[1])) || panels[0]);
	if (p) {
		cursor = { panel: p, gfn: Math.floor(parseInt(at[2], 16) / 4096), pinned: true };
		showCursor();
	}
	showTable(options.get("table") || (tab ? tab.id : TABLES[0].id));
	drawNow();
}

function setTheme(dark) {
	document.documentElement.dataset.theme = dark ? "dark" : "light";
	$("theme").textContent = dark ? "Light" : "Dark";
	readColours();
	if (panels.length) {
		drawStrip();
		draw();
	}
}

function globalKey(e) {
	if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("select"))
		return;
	const onControl = e.target.matches("button, a, input");
	const keys = { ",": () => stepAct(-1, false), ".": () => stepAct(1, false), "[": () => stepAct(-1, true),
		"]": () => stepAct(1, true), f: () => goTo(run.fullest), d: () => setTheme(document.documentElement.dataset.theme !== "dark"),
		Escape: () => {
			if (cursor?.pinned)
				setCursor(null, null);
			else if (zoomCell !== null)
				zoom(null);
			saveHash();
		} };
	if (!onControl) {
		keys[" "] = play;
		keys.Home = () => goTo(0);
		keys.End = () => goTo(run.steps);
	}
	const action = keys[e.key.length === 1 ? e.key.toLowerCase() : e.key];
	if (!action)
		return;
	action();
	e.preventDefault();
}

function wire() {
	$("slider").max = run.steps;
	$("slider").addEventListener("input", e => {
		stop();
		goTo(Number(e.target.value));
	});
	const buttons = { first: () => goTo(0), prev: () => stepAct(-1, false), next: () => stepAct(1, false), play,
		"prev-event": () => stepAct(-1, true), "next-event": () => stepAct(1, true), fullest: () => goTo(run.fullest),
		out: () => zoom(null), theme: () => setTheme(document.documentElement.dataset.theme !== "dark") };
	for (const [id, action] of Object.entries(buttons))
		$(id).addEventListener("click", () => {
			if (id !== "play" && id !== "theme")
				stop();
			action();
		});
	$("speed").addEventListener("change", () => {
		if (playing)
			playing = Object.assign(playing, { from: run.position, start: performance.now() });
	});
	document.addEventListener("keydown", globalKey);
	matchMedia("(prefers-color-scheme: dark)").addEventListener("change", e => setTheme(e.matches));
	addEventListener("hashchange", () => location.hash !== ownHash && (stop(), loadHash()));
	addEventListener("resize", () => {
		measure();
		drawStrip();
		draw();
	});
	addEventListener("scroll", draw, { passive: true });
}

function readStream() {
	const text = atob($("stream").textContent), bytes = new Uint8Array(text.length);
	for (let i = 0; i < text.length; i++)
		bytes[i] = text.charCodeAt(i);
	return bytes;
}

function start() {
	meta = JSON.parse($("meta").textContent);
	run = decodeRun(readStream(), meta);
	markSeen();
	run.cells = touchedCells();
	run.conversions = [];
	for (let a = 0; a < run.acts; a++)
		if (run.kind[a] === 2 && (run.outcome[a] === EVENT.TO_SHARED || run.outcome[a] === EVENT.TO_PRIVATE))
			run.conversions.push(a);
	makePanels();
	makeLegend();
	makeTabs();
	makeSummary();
	setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
	measure();
	wire();
	drawStrip();
	loadHash();
}

if (typeof document !== "undefined")
	start();
