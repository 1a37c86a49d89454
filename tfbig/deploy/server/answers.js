// One renderer for each kind of answer: ANSWERS[kind](name, value, context) -> a node, or null.
//   context: {answer: outputs by name, gives: their kinds, labels: names of classes, picture(), letters(), sound(): what was asked about}
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#f0e442", "#0072b2"];
const ANSWERS = {
  label(name, value, context) {
    if (Array.isArray(value)) return ["probabilities", "boxes"].some(kind => namesOf(value.length, context, kind)) ? null : make("div", {}, make("h3", {textContent: name}), make("div", {dir: "auto", textContent: value.join(", ")}));
    const text = String(typeof value === "number" && context.labels[value] !== undefined ? context.labels[value] : value);
    return make("div", {className: text.length > 16 ? "label long" : "label", dir: "auto", textContent: text});
  },
  probabilities(name, value, context) {
    if (!Array.isArray(value)) return ANSWERS.number(name, value);
    if (namesOf(value.length, context, "boxes")) return null;  // written beside the boxes
    const names = namesOf(value.length, context, "label") || (context.labels.length === value.length ? context.labels : value.map((_, i) => String(i)));
    const order = value.map((_, i) => i).sort((a, b) => value[b] - value[a]).slice(0, 20), node = make("div", {className: "bars"});
    for (const i of order) {
      const bar = make("i");
      bar.style.width = 100 * Math.min(1, Math.max(0, value[i])) + "%";
      node.append(make("span", {dir: "auto", textContent: names[i]}), bar, make("span", {textContent: (100 * value[i]).toFixed(1) + " %"}));
    }
    return node;
  },
  timeline(name, value, context) {  // of each label, how its probability moves along the time axis
    const names = namesOf(value[0].length, context, "label") || value[0].map((_, i) => String(i)), [width, height] = [640, 200];
    const canvas = make("canvas", {width, height, className: "wave"}), view = canvas.getContext("2d");
    const x = place => value.length > 1 ? place * (width - 1) / (value.length - 1) : 0, y = share => (height - 3) * (1 - share) + 1.5, most = Math.min(COLOURS.length, value[0].length);
    for (let i = most - 1; i >= 0; i--) {  // the likeliest lies on top
      view.strokeStyle = COLOURS[i]; view.lineWidth = 3; view.beginPath();
      value.forEach((row, place) => view.lineTo(x(place), y(row[i])));
      if (value.length === 1) view.lineTo(width, y(value[0][i]));
      view.stroke();
    }
    canvas.style.height = "150px"; canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", name + ": probabilities of " + names.slice(0, most).join(", ") + " along time");
    const key = make("p", {className: "soft"});
    for (let i = 0; i < most; i++) {
      const mark = make("b", {textContent: "— "});
      mark.style.color = COLOURS[i];
      key.append(mark, names[i] + "  ");
    }
    return make("div", {}, make("h3", {textContent: name.replaceAll("_", " ")}), canvas, key);
  },
  text: (name, value) => make("pre", {className: "text", dir: "auto", textContent: Array.isArray(value) ? value.join("\n") : String(value)}),
  tokens: (name, value) => make("div", {}, make("h3", {textContent: name}), make("pre", {textContent: [value].flat(9).join(" ")})),
  number(name, value) {
    const shown = typeof value !== "number" ? JSON.stringify(value) : Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));
    return make("div", {className: "number"}, make("span", {textContent: name}), make("b", {textContent: shown}));
  },
  picture(name, value) {
    if (value && value.b64 !== undefined) return make("img", {className: "shown", alt: name, src: URL.createObjectURL(blobOf(value.b64, ""))});
    const height = value.length, width = value[0].length, canvas = make("canvas", {width, height, className: width < 200 ? "shown small" : "shown"});
    const view = canvas.getContext("2d"), image = view.createImageData(width, height);
    value.flat().forEach((pixel, i) => {
      const part = [pixel].flat();
      image.data.set(part.length > 2 ? [part[0], part[1], part[2], part[3] ?? 255] : [part[0], part[0], part[0], 255], 4 * i);
    });
    view.putImageData(image, 0, 0);
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", name);
    return canvas;
  },
  boxes(name, value, context) {  // top, left, bottom, right in pixels of the picture as it was given
    const source = context.picture();
    if (!source) return ANSWERS.json(name, value);
    const scale = Math.max(1, 340 / source.width), canvas = make("canvas", {width: Math.round(source.width * scale), height: Math.round(source.height * scale), className: "shown"});
    const view = canvas.getContext("2d"), thick = Math.max(2, canvas.width / 240);
    const names = namesOf(value.length, context, "label"), scores = namesOf(value.length, context, "probabilities");
    const kinds = [...new Set(names || [])].filter(kind => kind !== "");
    const told = make("p", {className: "soft"}), least = make("input", {type: "range", min: 0, max: 1, step: 0.01, value: scores ? 0.3 : 0});
    function draw() {
      const counts = {};
      view.drawImage(source, 0, 0, canvas.width, canvas.height);
      view.lineWidth = thick; view.font = 6 * thick + "px system-ui, sans-serif"; view.textBaseline = "top";
      value.forEach((box, i) => {
        const [top, left, bottom, right] = box.map(edge => edge * scale), kind = names ? names[i] : "";
        if (bottom <= top || right <= left || scores && scores[i] < Number(least.value)) return;  // no box, or too unsure
        counts[kind] = (counts[kind] || 0) + 1;
        view.strokeStyle = view.fillStyle = COLOURS[Math.max(0, names ? kinds.indexOf(kind) : i) % COLOURS.length];
        view.strokeRect(left, top, right - left, bottom - top);
        if (!names) return;
        const words = scores ? kind + " " + Math.round(100 * scores[i]) : String(kind), wide = view.measureText(words).width + 2 * thick, high = 7.5 * thick;
        const [x, y] = [Math.max(0, Math.min(left, canvas.width - wide)), Math.max(0, top - high)];
        view.fillRect(x, y, wide, high); view.fillStyle = "#000"; view.fillText(words, x + thick, y + thick / 2);
      });
      const parts = Object.entries(counts).map(([kind, count]) => count + (kind ? " " + kind : ""));
      told.textContent = (parts.join(", ") || "no boxes") + (scores ? ", of a score of at least " + Math.round(100 * least.value) + " %" : "");
      canvas.setAttribute("aria-label", "boxes: " + told.textContent);
    }
    canvas.setAttribute("role", "img"); least.setAttribute("aria-label", "lowest score of a box"); least.addEventListener("input", draw);
    draw();
    return make("div", {}, canvas, ...(scores ? [least] : []), told);
  },
  pieces: (name, value, context) => Object.values(context.gives).includes("alignment") ? null : ANSWERS.text(name, value.filter(piece => piece !== "")),
  alignment(name, value, context) {  // rows: the pieces that come first, columns: those that come second
    const [rows, columns] = Object.keys(context.gives).filter(key => context.gives[key] === "pieces").map(key => context.answer[key]);
    const written = rows.filter(piece => piece !== ""), read = columns.filter(piece => piece !== "");
    const head = make("tr", {}, make("td"), ...read.map(piece => make("th", {scope: "col"}, make("span", {textContent: piece}))));
    const body = written.map((piece, i) => make("tr", {}, make("th", {scope: "row", textContent: piece}), ...read.map((other, j) => {
      const cell = make("td", {title: piece + " looks at " + other + ": " + Math.round(100 * value[i][j]) + " %"}), shade = make("i");
      shade.style.opacity = value[i][j]; cell.append(shade);
      return cell;
    })));
    return make("div", {}, make("h3", {textContent: name}), make("div", {className: "scroll"}, make("table", {className: "alignment"}, head, ...body)));
  },
  effects(name, value, context) {  // rows: places of the sequence, columns: A, C, G, T
    const letters = context.letters(), bases = "ACGT", colours = ["#109648", "#255c99", "#f7a500", "#d62839"], count = Math.min(letters.length, value.length, 2000);
    const wide = 14, high = 96, row = 14, left = 16, canvas = make("canvas", {width: left + wide * count, height: high + 5 * row}), view = canvas.getContext("2d");
    const ink = getComputedStyle(document.body).color, told = make("p", {className: "soft"});
    // What a letter is worth: the answer's log odds fall by so much, on average, if it is another one
    const worth = value.slice(0, count).map(each => -each.reduce((a, b) => a + b, 0) / 3);
    const top = Math.max(1e-6, ...worth.map(Math.abs)), most = Math.max(1e-6, ...value.slice(0, count).flat().map(Math.abs));
    view.textAlign = "center"; view.textBaseline = "alphabetic";
    for (let i = 0; i < count; i++) {
      const size = Math.abs(worth[i]) / top * high / 2, x = left + wide * (i + .5), up = worth[i] >= 0;
      view.save(); view.translate(x, high / 2 + (up ? 0 : size)); view.scale(1.6, size / 7.2);
      view.font = "bold 10px monospace"; view.fillStyle = colours[bases.indexOf(letters[i])] || "#888"; view.fillText(letters[i], 0, 0); view.restore();
      value[i].forEach((effect, j) => {
        view.fillStyle = effect < 0 ? "#d55e00" : "#0072b2"; view.globalAlpha = Math.min(1, Math.abs(effect) / most);
        view.fillRect(x - wide / 2, high + row * j, wide - 1, row - 1); view.globalAlpha = 1;
      });
      view.fillStyle = ink; view.font = "9px system-ui, sans-serif";
      if ((i + 1) % 10 === 0) view.fillText(i + 1, x, high + 5 * row - 3);
    }
    view.fillStyle = ink; view.fillRect(left, high / 2, wide * count, .5);
    [...bases].forEach((base, j) => { view.font = "bold 10px monospace"; view.fillText(base, left / 2, high + row * (j + 1) - 4); });
    const strongest = value.slice(0, count).flatMap((each, i) => each.map((effect, j) => [effect, letters[i] + (i + 1) + bases[j]])).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, 5);
    const words = "Strongest: " + strongest.map(([effect, words]) => words + " " + (effect > 0 ? "+" : "") + effect.toFixed(2)).join(", ");
    canvas.addEventListener("pointermove", event => {
      const box = canvas.getBoundingClientRect(), i = Math.floor(((event.clientX - box.left) * canvas.width / box.width - left) / wide);
      told.textContent = i >= 0 && i < count ? [...bases].map((base, j) => letters[i] + (i + 1) + base + " " + value[i][j].toFixed(2)).join(", ") : words;
    });
    told.textContent = words; canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", name + " of each base in each place. " + words);
    const legend = "Above: how much each letter is worth to the answer. Below: what another base does to its log odds, blue for more, orange for less" + (value.length > count ? "; the first " + count.toLocaleString("en") + " places." : ".");
    return make("div", {}, make("h3", {textContent: name}), make("div", {className: "scroll"}, canvas), told, make("p", {className: "soft", textContent: legend}));
  },
  words(name, value, context) {  // lines "start end word", in seconds, under the spectrogram of what was said
    const words = String(value).split("\n").filter(line => line).map(line => { const [start, end, ...word] = line.split(" "); return {start: Number(start), end: Number(end), word: word.join(" ")}; });
    const sound = context.sound();
    if (!sound || !words.length) return words.length ? ANSWERS.text(name, value) : make("p", {className: "soft", textContent: "No words."});
    const seconds = sound.samples.length / sound.rate, heard = make("canvas", {width: 640, height: 144}), rows = [], rowOf = [], ruler = document.createElement("canvas").getContext("2d");
    ruler.font = "22px system-ui, sans-serif";
    for (const one of words) {  // in the first row where it touches no other one
      const left = Math.min(640 * one.start / seconds, 640 - ruler.measureText(one.word).width);
      let row = rows.findIndex(end => end + 10 < left);
      if (row < 0) row = rows.push(0) - 1;
      rows[row] = left + ruler.measureText(one.word).width; rowOf.push([row, Math.max(0, left)]);
    }
    drawSpectrogram(heard, sound.samples, sound.rate);
    const canvas = make("canvas", {width: 640, height: 148 + 30 * rows.length, className: "spoken"}), view = canvas.getContext("2d"), ink = getComputedStyle(document.body).color;
    view.drawImage(heard, 0, 0); view.font = ruler.font;
    words.forEach((one, i) => {
      const [row, left] = rowOf[i], base = 170 + 30 * row;
      view.fillStyle = "#00ffa0";
      for (const edge of [one.start, one.end]) view.fillRect(Math.min(638, 640 * edge / seconds), 0, 1.5, 144);
      view.globalAlpha = .4; view.fillRect(640 * one.start / seconds, 144, 1.5, base - 162); view.globalAlpha = 1;
      view.fillStyle = ink; view.fillText(one.word, left, base);
    });
    const told = words.map(one => one.word + " " + one.start.toFixed(2) + "–" + one.end.toFixed(2) + " s").join(", ");
    canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", name + ": " + told);
    return make("div", {}, make("h3", {textContent: "Where it was said"}), canvas, make("p", {className: "soft", textContent: told}));
  },
  audio(name, value) {
    if (!value || value.b64 === undefined) return ANSWERS.json(name, value);
    const player = make("audio", {controls: true, src: URL.createObjectURL(blobOf(value.b64, "audio/wav"))});
    player.setAttribute("aria-label", name);
    return player;
  },
  state: (name, value) => make("div", {}, make("h3", {textContent: name}), make("pre", {textContent: Array.isArray(value) ? value.map(row => JSON.stringify(row)).join("\n") : JSON.stringify(value)})),
  json: (name, value) => make("div", {}, make("h3", {textContent: name}), make("pre", {dir: "auto", textContent: JSON.stringify(value, null, 1)})),
};
function blobOf(b64, type) { return new Blob([Uint8Array.from(atob(b64), letter => letter.charCodeAt(0))], {type}); }
// The list of another kind that says something of as many things: names of probabilities, or of boxes.
function namesOf(count, context, kind) {
  const name = Object.keys(context.gives).find(key => context.gives[key] === kind && Array.isArray(context.answer[key]) && context.answer[key].length === count);
  return name === undefined ? null : context.answer[name];
}
function answerNodes(answer, context) {
  const kinds = Object.entries(context.gives).filter(([name]) => name in answer);
  const shown = kinds.length ? kinds : Object.keys(answer).map(name => [name, "json"]);
  return shown.map(([name, kind]) => {
    try { return (ANSWERS[kind] || ANSWERS.json)(name, answer[name], context); } catch { return ANSWERS.json(name, answer[name]); }
  }).filter(node => node);
}
