"""multipart/form-data, as far as a PUT of a value with metadata needs it."""

import re

from reply import Refusal

NAME = re.compile(rb'(?:^|;)\s*name="((?:[^"\\]|\\.)*)"|(?:^|;)\s*name=([^;\s]+)', re.IGNORECASE)


def boundary(content_type):
    found = re.search(r'boundary=(?:"([^"]+)"|([^;\s]+))', content_type, re.IGNORECASE)
    if not found:
        raise Refusal(400, 10029, "invalid request: multipart without a boundary")
    return (found.group(1) or found.group(2)).encode()


def parts(content_type, body):
    """{name: bytes} of a form."""
    mark = b"--" + boundary(content_type)
    if not body.startswith(mark):
        raise Refusal(400, 10029, "invalid request: malformed multipart body")
    found, sections = {}, (b"\r\n" + body).split(b"\r\n" + mark)
    if not sections[-1].startswith(b"--"):
        raise Refusal(400, 10029, "invalid request: unterminated multipart body")
    for section in sections[1:-1]:
        head, blank, content = section.partition(b"\r\n\r\n")
        name = None
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-disposition:"):
                name = NAME.search(line.partition(b":")[2])
        if not blank or not name:
            raise Refusal(400, 10029, "invalid request: malformed part")
        found[(name.group(1) or name.group(2)).decode("utf-8", "replace")] = content
    return found
