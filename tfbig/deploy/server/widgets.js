// One widget for each medium: WIDGETS[medium](name, input, form, changed) -> {node, value, clear, picture, picked}.
//   name, input: of the served signature; form: what the medium says of itself (sizes, rate_hz, letters)
//   changed(): something was given that may be asked at once
//   value(): what is sent for one row; throws an Error in words where nothing was given
//   picture(): what boxes are drawn upon; picked(files): files that were dropped or pasted
const at = id => document.getElementById(id);
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}
async function base64(blob) {
  const url = await new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result); reader.onerror = () => failed(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
  return {b64: url.slice(url.indexOf(",") + 1)};
}
const png = canvas => new Promise(done => canvas.toBlob(done, "image/png"));
function fitted(source, width, height, side) {  // a canvas of at most `side` pixels
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = make("canvas", {width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale))});
  canvas.getContext("2d").drawImage(source, 0, 0, canvas.width, canvas.height);
  return canvas;
}
function chooser(name, words, accept, several, picked) {
  const input = make("input", {type: "file", id: "file_" + name, accept, multiple: several});
  const node = make("div", {className: "drop"}, make("label", {htmlFor: input.id, textContent: words}), input);
  input.addEventListener("change", () => { if (input.files.length) picked([...input.files]); });
  return {node, clear() { input.value = ""; }};
}
function written(name, words, className, value) {
  const area = make("textarea", {id: "given_" + name, className, spellcheck: false, dir: "auto", value});
  return {area, label: make("label", {htmlFor: area.id, textContent: words})};
}
const WIDGETS = {
  picture(name, input, form, changed) {
    const pad = make("canvas", {id: "pad_" + name, className: "pad", width: 280, height: 280, tabIndex: 0}), pen = pad.getContext("2d", {willReadFrequently: true});
    pad.setAttribute("role", "img");
    pad.setAttribute("aria-label", name + ": drawing area. With the keyboard: arrow keys move the pen, hold Shift to draw, Enter asks, Delete clears.");
    let file = null, bitmap = null, drawn = false, last = null, timer = 0, place = [140, 140];
    function clear() {
      pen.fillStyle = "#000"; pen.fillRect(0, 0, 280, 280);
      file = bitmap = null; drawn = false; files.clear(); clearTimeout(timer);
    }
    function stroke(from, to) {
      if (file) clear();
      pen.strokeStyle = "#fff"; pen.lineWidth = 20; pen.lineCap = pen.lineJoin = "round";
      pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke(); drawn = true;
    }
    function point(event) {
      const box = pad.getBoundingClientRect();
      return [(event.clientX - box.left) * 280 / box.width, (event.clientY - box.top) * 280 / box.height];
    }
    pad.addEventListener("pointerdown", event => { clearTimeout(timer); last = point(event); stroke(last, last); pad.setPointerCapture(event.pointerId); });
    pad.addEventListener("pointermove", event => { if (last) { const now = point(event); stroke(last, now); last = now; } });
    for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { last = null; clearTimeout(timer); timer = setTimeout(changed, 300); });
    pad.addEventListener("keydown", event => {
      const step = {ArrowLeft: [-8, 0], ArrowRight: [8, 0], ArrowUp: [0, -8], ArrowDown: [0, 8]}[event.key];
      if (step) {
        const next = [0, 1].map(i => Math.min(270, Math.max(10, place[i] + step[i])));
        if (event.shiftKey) stroke(place, next);
        place = next;
      } else if (event.key === "Enter") changed();
      else if (event.key === "Delete" || event.key === "Backspace") at("clear").click();
      else return;
      event.preventDefault();
    });
    async function picked([given]) {
      clear(); file = given;
      try {
        bitmap = await createImageBitmap(given);
        const scale = Math.min(280 / bitmap.width, 280 / bitmap.height), [width, height] = [bitmap.width * scale, bitmap.height * scale];
        pen.imageSmoothingEnabled = scale < 1; pen.drawImage(bitmap, 140 - width / 2, 140 - height / 2, width, height);
      } catch { /* the server says what is wrong with it */ }
      changed();
    }
    const files = chooser(name, "Draw above, or drop, paste or choose a picture", "image/png,image/jpeg,image/bmp,image/gif", false, picked);
    clear();
    return {
      node: [pad, files.node], clear, picked,
      picture: () => bitmap || pad,
      async value() {
        if (!file && !drawn) throw new Error("Draw something or choose a picture first.");
        return base64(file || await png(String(form.shape) === "28,28,1" ? centred(pad) : pad));
      },
    };
  },
  text(name, input, form, changed) {
    const {area, label} = written(name, name, "", "");
    return {node: [label, area], clear() { area.value = ""; }, value: async () => area.value};
  },
  sequence(name, input, form, changed) {
    const {area, label} = written(name, name + ", letters or FASTA", "letters", ""), told = make("p", {className: "soft"});
    const letters = () => area.value.split("\n").filter(line => !/^[>;]/.test(line)).join("").replace(/\s/g, "").toUpperCase();
    function problem(text) {
      const wrong = form.letters ? [...text].findIndex(letter => !form.letters.includes(letter)) : -1;
      if (wrong >= 0) return "Expected letters of " + form.letters + ". Received: " + [...text][wrong] + ", at letter " + (wrong + 1).toLocaleString("en") + ".";
      return form.most && text.length > form.most ? "Expected at most " + form.most.toLocaleString("en") + " letters. Received: " + text.length.toLocaleString("en") + "." : "";
    }
    function tell() {
      const text = letters(), wrong = problem(text);
      told.className = wrong ? "bad" : "soft"; told.textContent = wrong || text.length.toLocaleString("en") + " letters";
    }
    async function picked([file]) { area.value = await file.text(); tell(); changed(); }
    const files = chooser(name, "or drop a FASTA file, or choose one", ".fa,.fasta,.fna,.faa,.txt,text/plain", false, picked);
    area.addEventListener("input", tell); tell();
    return {
      node: [label, area, told, files.node], letters, picked, clear() { area.value = ""; files.clear(); tell(); },
      async value() {
        const text = letters(), wrong = problem(text);
        if (wrong || !text) throw new Error(wrong || "Type or paste a sequence first.");
        return text;
      },
    };
  },
  samples(name, input, form, changed) {
    const rate = form.rate_hz || 16000, view = make("canvas", {className: "wave", width: 640, height: 144}), heard = make("canvas", {className: "wave", width: 640, height: 144, hidden: true}), player = make("audio", {controls: true, hidden: true});
    const record = make("button", {textContent: "Record", disabled: !navigator.mediaDevices}), told = make("p", {className: "soft"});
    let samples = null, recorder = null;
    view.setAttribute("aria-hidden", "true"); heard.setAttribute("role", "img"); heard.setAttribute("aria-label", "spectrogram: time to the right, frequency upwards");
    function clear() { samples = null; heard.hidden = true; player.hidden = true; player.removeAttribute("src"); view.getContext("2d").clearRect(0, 0, 640, 144); told.textContent = ""; files.clear(); }
    async function picked([file]) {
      clear();
      try {  // decoded, mixed to one channel and brought to the model's rate by the browser
        const content = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
        const context = new OfflineAudioContext(1, Math.max(1, content.length), rate), source = context.createBufferSource();
        source.buffer = content; source.connect(context.destination); source.start();
        samples = (await context.startRendering()).getChannelData(0);
      } catch { told.textContent = "This is no recording that the browser can read."; return; }
      drawWave(view, samples); drawSpectrogram(heard, samples, rate); heard.hidden = false;
      player.src = URL.createObjectURL(wav(samples, rate)); player.hidden = false;
      told.textContent = (samples.length / rate).toFixed(2) + " s at " + rate.toLocaleString("en") + " Hz";
      changed();
    }
    record.addEventListener("click", async () => {
      if (recorder) { recorder.stop(); return; }
      try {
        const stream = await navigator.mediaDevices.getUserMedia({audio: true}), parts = [];
        recorder = new MediaRecorder(stream);
        recorder.ondataavailable = event => parts.push(event.data);
        recorder.onstop = () => { stream.getTracks().forEach(track => track.stop()); record.textContent = "Record"; recorder = null; picked([new Blob(parts)]); };
        recorder.start(); record.textContent = "Stop";
      } catch (error) { told.textContent = "The microphone cannot be used: " + error.message; }
    });
    const files = chooser(name, "or drop a recording, or choose one", "audio/*", false, picked);
    return {
      node: [make("div", {className: "row"}, record, told), view, heard, player, files.node], clear, picked, sound: () => samples && {samples, rate},
      async value() {
        if (!samples) throw new Error("Record something or choose a recording first.");
        if (form.most && samples.length > form.most) throw new Error("Expected at most " + (form.most / rate).toFixed(2) + " s. Received: " + (samples.length / rate).toFixed(2) + " s.");
        return base64(wav(samples, rate));
      },
    };
  },
  video(name, input, form, changed) {
    const count = form.frames || Math.max(1, input.shape[1] || 1), shown = make("div", {className: "frames"}), told = make("p", {className: "soft"});
    let frames = [];
    function clear() { frames = []; shown.replaceChildren(); told.textContent = ""; files.clear(); }
    async function picked(given) {
      clear(); told.textContent = "Reading …";
      try { frames = await framesOf(given, count); } catch { told.textContent = "This is no video that the browser can read."; return; }
      shown.replaceChildren(...frames.map(frame => fitted(frame, frame.width, frame.height, 112)));
      told.textContent = count + " frames, the middles of equal parts";
      changed();
    }
    const files = chooser(name, "Drop a GIF, a film or its frames as pictures, or choose them", "image/*,video/*", true, picked);
    return {
      node: [files.node, shown, told], clear, picked, picture: () => frames[0],
      async value() {
        if (!frames.length) throw new Error("Choose a video first.");
        return Promise.all(frames.map(async frame => base64(await png(frame))));
      },
    };
  },
  state(name, input, form, changed) {
    const sizes = form.shape || input.shape.slice(1), [columns] = sizes.slice(-1), total = sizes.reduce((a, b) => a * b, 1);
    if (sizes.length < 1 || sizes.length > 2 || total > 400 || total < 1 || columns > 20) return WIDGETS.json(name, input, form, changed);
    const whole = /int|bool/.test(input.dtype), cells = [...Array(total)].map((_, i) => {
      const cell = make("input", {type: "number", step: whole ? "1" : "any", value: "0", id: "given_" + name + "_" + i});
      if (form.low != null) cell.min = form.low;
      if (form.high != null) cell.max = form.high;
      cell.setAttribute("aria-label", name + (sizes.length > 1 ? ", row " + (1 + Math.floor(i / columns)) : "") + ", column " + (1 + i % columns));
      cell.addEventListener("keydown", event => {
        const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns}[event.key];
        if (step && (event.ctrlKey || event.metaKey)) { (cells[i + step] || cell).focus(); event.preventDefault(); }
      });
      return cell;
    });
    const node = make("div", {className: "grid"}, ...cells);
    node.style.gridTemplateColumns = "repeat(" + columns + ", minmax(2.1rem, 4rem))";
    return {
      node: [make("h3", {textContent: name}), node, make("p", {className: "soft", textContent: "Ctrl and an arrow key go from cell to cell."})],
      clear() { for (const cell of cells) cell.value = "0"; },
      async value() {
        const numbers = cells.map(cell => { if (cell.value === "" || !cell.checkValidity()) { cell.focus(); throw new Error(cell.getAttribute("aria-label") + ": " + (cell.validationMessage || "expected a number.")); } return Number(cell.value); });
        return sizes.length === 1 ? numbers : [...Array(sizes[0])].map((_, row) => numbers.slice(row * columns, (row + 1) * columns));
      },
    };
  },
  tokens(name, input, form, changed) {
    const single = input.shape.length === 1;
    const {area, label} = written(name, name + (single ? ", a whole number" : ", whole numbers"), "letters few", "");
    return {
      node: [label, area], clear() { area.value = ""; },
      async value() {
        const words = area.value.split(/[\s,;[\]]+/).filter(word => word), wrong = words.find(word => !/^-?\d+$/.test(word));
        if (wrong !== undefined) throw new Error(name + ": expected whole numbers. Received: " + wrong + ".");
        if (single && words.length !== 1) throw new Error(name + ": expected one whole number. Received: " + words.length + ".");
        return single ? Number(words[0]) : words.map(Number);
      },
    };
  },
  json(name, input, form, changed) {
    const zeros = sizes => sizes.length ? [...Array(Math.max(1, sizes[0]))].map(() => zeros(sizes.slice(1))) : input.dtype === "string" ? "" : 0;
    const small = input.shape.slice(1).reduce((a, b) => a * Math.max(1, b), 1) <= 1000;
    const first = small ? JSON.stringify(zeros(input.shape.slice(1))) : "";
    const {area, label} = written(name, name + ", " + input.dtype + " " + JSON.stringify(input.shape.slice(1)) + " as JSON", "json", first);
    return {
      node: [label, area], clear() { area.value = first; },
      async value() {
        try { return JSON.parse(area.value); } catch (error) { throw new Error(name + ": expected JSON. " + error.message); }
      },
    };
  },
};
// MNIST's digits fill 20 x 20 pixels, centred by mass in 28 x 28 (LeCun et al. 1998); a drawing is brought into that form.
function centred(pad) {
  const pixels = pad.getContext("2d").getImageData(0, 0, 280, 280).data;
  let left = 280, right = -1, top = 280, bottom = -1;
  for (let y = 0; y < 280; y++) for (let x = 0; x < 280; x++) if (pixels[4 * (280 * y + x)] > 20) {
    left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
  }
  if (right < 0) return pad;
  const width = right - left + 1, height = bottom - top + 1, scale = 20 / Math.max(width, height);
  const small = make("canvas", {width: 28, height: 28}), view = small.getContext("2d");
  const draw = (x, y) => {
    view.fillStyle = "#000"; view.fillRect(0, 0, 28, 28); view.imageSmoothingQuality = "high";
    view.drawImage(pad, left, top, width, height, x, y, width * scale, height * scale);
  };
  draw(14 - width * scale / 2, 14 - height * scale / 2);
  const values = view.getImageData(0, 0, 28, 28).data;
  let mass = 0, x = 0, y = 0;
  for (let i = 0; i < 784; i++) { const v = values[4 * i]; mass += v; x += v * (i % 28); y += v * Math.floor(i / 28); }
  draw(14 - width * scale / 2 + Math.round(13.5 - x / mass), 14 - height * scale / 2 + Math.round(13.5 - y / mass));
  return small;
}
function wav(samples, rate) {  // PCM of 16 bits, one channel
  const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
  const words = (place, text) => [...text].forEach((letter, i) => view.setUint8(place + i, letter.charCodeAt(0)));
  words(0, "RIFF"); view.setUint32(4, 36 + 2 * samples.length, true); words(8, "WAVEfmt "); view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); view.setUint16(22, 1, true); view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); words(36, "data"); view.setUint32(40, 2 * samples.length, true);
  samples.forEach((sample, i) => view.setInt16(44 + 2 * i, Math.max(-32768, Math.min(32767, Math.round(32768 * sample))), true));
  return new Blob([view.buffer], {type: "audio/wav"});
}
function drawWave(canvas, samples) {
  const view = canvas.getContext("2d"), {width, height} = canvas;
  view.clearRect(0, 0, width, height); view.fillStyle = getComputedStyle(canvas).getPropertyValue("--bar");
  for (let x = 0; x < width; x++) {
    let low = 0, high = 0;
    for (let i = Math.floor(x * samples.length / width); i < (x + 1) * samples.length / width && i < samples.length; i++) { low = Math.min(low, samples[i]); high = Math.max(high, samples[i]); }
    view.fillRect(x, height / 2 * (1 - high), 1, Math.max(1, height / 2 * (high - low)));
  }
}
// The power of each frequency, low ones below, in the colours of a flame; 70 dB from dark to bright.
function drawSpectrogram(canvas, samples, rate) {
  const view = canvas.getContext("2d"), {width, height} = canvas, image = view.createImageData(width, height), size = rate > 12000 ? 512 : 256;
  const mel = hertz => 1127 * Math.log1p(hertz / 700), edges = [...Array(height + 1).keys()].map(i => 700 * Math.expm1(i / height * mel(rate / 2) / 1127) * size / rate);
  const columns = [...Array(width).keys()].map(x => {
    const power = powers(samples, Math.round((x + .5) * samples.length / width) - size / 2, size);
    return [...Array(height).keys()].map(i => { let most = 0; for (let bin = Math.floor(edges[i]); bin <= Math.min(size / 2, Math.floor(edges[i + 1])); bin++) most = Math.max(most, power[bin]); return most; });
  });
  const top = columns.flat().reduce((a, b) => Math.max(a, b), 1e-6), stops = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]];
  columns.forEach((column, x) => column.forEach((power, i) => {
    const place = 4 * Math.min(.999, Math.max(0, 1 + Math.log10(power / top + 1e-12) / 7)), stop = Math.floor(place);
    image.data.set([0, 1, 2].map(c => stops[stop][c] + (place - stop) * (stops[stop + 1][c] - stops[stop][c])).concat(255), 4 * (x + width * (height - 1 - i)));
  }));
  view.putImageData(image, 0, 0);
}
// Of a Hann window of 2^k samples from a place on, zeros beyond either end: the power of each frequency.
function powers(samples, from, size) {
  const real = new Float64Array(size), imaginary = new Float64Array(size), bits = Math.log2(size);
  for (let i = 0; i < size; i++) {
    let place = 0;
    for (let bit = 0; bit < bits; bit++) place |= (i >> bit & 1) << bits - 1 - bit;
    real[place] = (samples[from + i] || 0) * (.5 - .5 * Math.cos(2 * Math.PI * i / size));
  }
  for (let half = 1; half < size; half *= 2) for (let j = 0; j < half; j++) {
    const [c, s] = [Math.cos(Math.PI * j / half), -Math.sin(Math.PI * j / half)];
    for (let a = j; a < size; a += 2 * half) {
      const b = a + half, r = c * real[b] - s * imaginary[b], i = c * imaginary[b] + s * real[b];
      real[b] = real[a] - r; imaginary[b] = imaginary[a] - i; real[a] += r; imaginary[a] += i;
    }
  }
  return real.slice(0, size / 2 + 1).map((value, i) => value * value + imaginary[i] * imaginary[i]);
}
// Of n frames the middles of `count` equal parts, as canvases: of several pictures, a moving picture or a film.
async function framesOf(files, count) {
  const middle = (i, n) => Math.floor((2 * i + 1) * n / (2 * count)), side = 640;
  const draw = (source, width, height) => fitted(source, width, height, side);
  const [file] = files, numbers = [...Array(count).keys()];
  if (files.length > 1) {
    const sorted = [...files].sort((a, b) => a.name.localeCompare(b.name, "en", {numeric: true}));
    return Promise.all(numbers.map(async i => { const bitmap = await createImageBitmap(sorted[middle(i, sorted.length)]); return draw(bitmap, bitmap.width, bitmap.height); }));
  }
  if (file.type.startsWith("image/") && window.ImageDecoder) {
    const decoder = new ImageDecoder({data: await file.arrayBuffer(), type: file.type}), frames = [];
    await decoder.completed; await decoder.tracks.ready;
    for (const i of numbers) {
      const {image} = await decoder.decode({frameIndex: middle(i, decoder.tracks.selectedTrack.frameCount)});
      frames.push(draw(image, image.displayWidth, image.displayHeight)); image.close();
    }
    return frames;
  }
  if (file.type.startsWith("image/")) {
    const bitmap = await createImageBitmap(file);
    return numbers.map(() => draw(bitmap, bitmap.width, bitmap.height));
  }
  const film = make("video", {muted: true, preload: "auto", src: URL.createObjectURL(file)}), frames = [];
  const until = name => new Promise((done, failed) => { film.addEventListener(name, done, {once: true}); film.addEventListener("error", failed, {once: true}); });
  await until("loadeddata");
  for (const i of numbers) {
    const sought = until("seeked");
    film.currentTime = (2 * i + 1) * film.duration / (2 * count); await sought;
    frames.push(draw(film, film.videoWidth, film.videoHeight));
  }
  URL.revokeObjectURL(film.src);
  return frames;
}
