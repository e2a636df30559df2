// multipart/form-data as bytes: what a text decoder would do to a binary value must not happen.

// {name: Buffer} of a form, null when it is malformed.
export function parts(type, body) {
  const found = /boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(type);
  if (!found) return null;
  const mark = Buffer.from(`\r\n--${found[1] ?? found[2]}`);
  body = Buffer.concat([Buffer.from("\r\n"), body]);
  const form = {};
  for (let at = body.indexOf(mark); at >= 0; ) {
    const start = at + mark.length;
    if (body.subarray(start, start + 2).toString() === "--") return form;
    at = body.indexOf(mark, start);
    const blank = body.indexOf("\r\n\r\n", start);
    if (at < 0 || blank < 0 || blank > at) return null;
    const name = /[;\s]name="?([^";\r\n]*)"?/i.exec(body.subarray(start, blank).toString());
    if (!name) return null;
    form[name[1]] = body.subarray(blank + 4, at);
  }
  return null;
}
