// The numbers in a PNG of 8 bits and one channel. A canvas would give colours, not classes.

const bytesOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** A PNG in base64 as a blob. */
export const pngBlob = (text) => new Blob([bytesOf(text)], { type: "image/png" });

/** {width, height, values} of a grey or palette PNG in base64. */
export async function pngValues(text) {
  const bytes = bytesOf(text);
  const view = new DataView(bytes.buffer);
  const width = view.getUint32(16), height = view.getUint32(20);
  if (bytes[24] !== 8 || ![0, 3].includes(bytes[25]) || bytes[28] !== 0)
    throw new Error("no PNG of 8 bits and one channel");
  const packed = [];
  for (let at = 8; at < bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (kind === "IDAT") packed.push(bytes.subarray(at + 8, at + 8 + length));
    at += length + 12;
  }
  const stream = new Blob(packed).stream().pipeThrough(new DecompressionStream("deflate"));
  const lines = new Uint8Array(await new Response(stream).arrayBuffer());
  return { width, height, values: unfiltered(lines, width, height) };
}

/** Undo the filter of each line (PNG specification, section 9). */
function unfiltered(lines, width, height) {
  const values = new Uint8Array(width * height);
  for (let row = 0, from = 0, to = 0; row < height; row++) {
    const filter = lines[from++];
    for (let column = 0; column < width; column++, from++, to++) {
      const left = column ? values[to - 1] : 0;
      const up = row ? values[to - width] : 0;
      const corner = row && column ? values[to - width - 1] : 0;
      values[to] = lines[from] + predicted(filter, left, up, corner);
    }
  }
  return values;
}

function predicted(filter, left, up, corner) {
  switch (filter) {
    case 1: return left;
    case 2: return up;
    case 3: return (left + up) >> 1;
    case 4: {
      const guess = left + up - corner;
      const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
      return a <= b && a <= c ? left : b <= c ? up : corner;
    }
    default: return 0;
  }
}
