"""Problems (RFC 9457) for what is answered before, or without, the HTTP application."""

import msgspec


def problem(status: int, name: str, title: str, detail: str, instance: str = "") -> tuple[bytes, bytes]:
    """Media type and body, in the form of `unwind.http.problems`."""
    told = {"type": f"/problems/{name}", "title": title, "status": status, "detail": detail, "instance": instance}
    return b"application/problem+json", msgspec.json.encode(told)
