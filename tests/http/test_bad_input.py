"""Bad input: every case is answered 4xx as a problem that names the field, and nothing is stored."""

import json
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http.conftest import ITEM, Shop, check_problem

from unwind.http.bodies import BODY_LIMIT, locate

NAMES = ("malformed", "too-large", "unsupported-media-type", "validation")


def line(**changes: bytes) -> bytes:
    """An order with one item, its values replaced by raw JSON."""
    values = {"product_id": b'"p"', "quantity": b"1", "price": b"1.50", **changes}
    return (
        b'{"customer_id":"c","items":[{' + b",".join(b'"%s":%s' % (k.encode(), v) for k, v in values.items()) + b"}]}"
    )


def named(customer: bytes) -> bytes:
    return b'{"customer_id":%s,"items":[{"product_id":"p","quantity":1,"price":1}]}' % customer


MANY = json.dumps({"customer_id": "c", "items": [ITEM] * 1_001}).encode()
TEN_THOUSAND = b'{"customer_id":"c","items":[' + b",".join([b"{}"] * 10_000) + b"]}"
QUANTITY = {
    "negative": b"-1",
    "zero": b"0",
    "fraction": b"1.5",
    "whole-float": b"1.0",
    "exponent": b"1e2",
    "text": b'"1"',
    "true": b"true",
    "null": b"null",
    "list": b"[1]",
    "too-many": b"1000001",
    "huge": b"1" * 5_000,
    "astronomic": b"1e400000",
    "64-bit": b"9223372036854775808",
}
PRICE = {
    "negative": b"-0.01",
    "zero": b"0",
    "zeros": b"0.00",
    "minus-zero": b"-0",
    "finer": b"100.001",
    "finest": b"1e-400000",
    "text": b'"100.00"',
    "true": b"true",
    "null": b"null",
    "object": b"{}",
    "list": b"[1.0]",
    "5000-digits": b"9" * 5_000,
    "5000-decimals": b"0." + b"3" * 5_000,
    "astronomic": b"1e400000",
    "more": b"1e999999999999999999",
    "large": b"1e14",
}
NAME = {
    "empty": b'""',
    "blank": b'"  "',
    "tab": b'"a\\tb"',
    "newline": b'"a\\n"',
    "nul": b'"a\\u0000"',
    "delete": b'"\\u007f"',
    "c1": b'"\\u0085"',
    "long": b'"%s"' % (b"x" * 300),
    "number": b"1",
    "null": b"null",
    "list": b'["a"]',
    "object": b"{}",
}
MALFORMED = {
    "nan": (line(price=b"NaN"), "items[0].price"),
    "infinity": (line(price=b"Infinity"), "items[0].price"),
    "minus-infinity": (line(quantity=b"-Infinity"), "items[0].quantity"),
    "leading-zero": (line(price=b"01"), "items[0].price"),
    "hex": (line(price=b"0x10"), "items[0].price"),
    "comment": (line(price=b"1/*one*/"), "items[0].price"),
    "lone-high-surrogate": (line(product_id=b'"\\ud800"'), "items[0].product_id"),
    "lone-low-surrogate": (named(b'"\\udc00"'), "customer_id"),
    "raw-surrogate": (named(b'"\xed\xa0\x80"'), "customer_id"),
    "not-utf-8": (line(product_id=b'"\xff"'), "items[0].product_id"),
    "raw-control": (named(b'"a\x00b"'), "customer_id"),
    "truncated-value": (line()[:-8], "items[0].price"),
    "truncated-name": (b'{"customer_id":"c","ite', ""),
    "trailing-comma": (named(b'"c"')[:-1] + b",}", ""),
    "trailing-text": (line() + b"{}", ""),
    "empty": (b"", ""),
    "blank": (b"   ", ""),
    "byte-order-mark": (b"\xef\xbb\xbf" + line(), ""),
    "utf-16": (line().decode().encode("utf-16"), ""),
    "not-json": (b"customer_id=c", ""),
    "single-quotes": (b"{'customer_id':'c'}", ""),
    "deep-price": (line(price=b"[" * 100_000), ""),
    "deep-object": (line(price=b'{"a":' * 40_000), ""),
}
SHAPE = {
    "not-an-object": (b"[]", ""),
    "null": (b"null", ""),
    "number": (b"1", ""),
    "deep": (b"[" * 200_000, ""),
    "no-customer": (b'{"items":[]}', "items"),
    "nothing": (b"{}", "customer_id"),
    "no-items": (b'{"customer_id":"c"}', "items"),
    "empty-items": (b'{"customer_id":"c","items":[]}', "items"),
    "items-object": (b'{"customer_id":"c","items":{}}', "items"),
    "items-null": (b'{"customer_id":"c","items":null}', "items"),
    "item-null": (b'{"customer_id":"c","items":[null]}', "items[0]"),
    "second-item": (line()[:-2] + b",{}]}", "items[1].product_id"),
    "unknown-field": (b'{"customer_id":"c","coupon":1,"items":[]}', "coupon"),
    "unknown-deep": (b'{"customer_id":"c","x":%s' % (b"[" * 100_000), "x"),
    "server-field": (b'{"customer_id":"c","status":"completed"}', "status"),
    "unknown-in-item": (line(discount=b"1"), "items[0].discount"),
    "wrong-case": (b'{"Customer_id":"c"}', "Customer_id"),
    "1001-items": (MANY, "items"),
    "10000-items": (TEN_THOUSAND, ""),
    "total": (line(quantity=b"1000000", price=b"10000000000000"), "items"),
}
CASES: dict[str, tuple[bytes, int, str | None]] = {
    **{f"quantity-{name}": (line(quantity=value), 422, "items[0].quantity") for name, value in QUANTITY.items()},
    **{f"price-{name}": (line(price=value), 422, "items[0].price") for name, value in PRICE.items()},
    **{f"customer-{name}": (named(value), 422, "customer_id") for name, value in NAME.items()},
    **{f"product-{name}": (line(product_id=value), 422, "items[0].product_id") for name, value in NAME.items()},
    **{f"malformed-{name}": (body, 400, field) for name, (body, field) in MALFORMED.items()},
    **{f"shape-{name}": (body, 422, field) for name, (body, field) in SHAPE.items()},
}


async def test_every_bad_order_is_refused_by_field_at_once_and_nothing_is_stored(shop: Shop) -> None:
    for name, (body, status, field) in CASES.items():
        began = monotonic()
        response = await shop.order(body)
        assert response.status_code == status, (name, response.text)
        problem = check_problem(response, status, "malformed" if status == 400 else "validation")
        if field:
            assert problem["errors"][0]["field"] == field, (name, problem)
            assert problem["errors"][0]["reason"], name
        assert len(response.content) < 2_000, name
        assert monotonic() - began < 2, name
    assert await shop.stored() == 0


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "application/json; charset=latin-1",
     "multipart/form-data; boundary=x", "nonsense"],
)  # fmt: skip
async def test_another_content_type_is_refused(shop: Shop, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    response = await shop.http.post("/api/v1/orders", content=line(), headers=headers)
    assert check_problem(response, 415, "unsupported-media-type")["errors"][0]["field"] == "Content-Type"
    assert await shop.stored() == 0


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_json_in_utf_8_is_accepted_however_it_is_called(shop: Shop, content_type: str) -> None:
    response = await shop.http.post("/api/v1/orders", content=line(), headers={"Content-Type": content_type})
    assert response.status_code == 202


async def test_the_largest_body_is_accepted_and_one_byte_more_is_not(shop: Shop) -> None:
    assert (await shop.order(line().ljust(BODY_LIMIT))).status_code == 202
    check_problem(await shop.order(line().ljust(BODY_LIMIT + 1)), 413, "too-large")
    assert await shop.stored() == 1


async def test_a_body_without_a_length_is_cut_at_the_limit(shop: Shop) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            assert sent < 100
            yield b" " * 16_384

    headers = {"Content-Type": "application/json"}
    response = await shop.http.post("/api/v1/orders", content=endless(), headers=headers)
    check_problem(response, 413, "too-large")
    assert await shop.stored() == 0


async def test_the_last_of_two_values_of_one_name_counts(shop: Shop) -> None:
    saga_id = (await shop.order(named(b'"first","customer_id":"second"'))).json()["saga_id"]
    assert (await shop.saga(saga_id))["context"]["customer_id"] == "second"


def places(document: Any, path: str = "") -> list[tuple[str, Any]]:
    """Path and value of every scalar in a document."""
    if isinstance(document, dict):
        return [found for key, value in document.items() for found in places(value, f"{path}.{key}".removeprefix("."))]
    if isinstance(document, list):
        return [found for index, value in enumerate(document) for found in places(value, f"{path}[{index}]")]
    return [(path, document)]


keys = st.text("abcxyz_", min_size=1, max_size=5)
scalars = st.integers() | st.booleans() | st.none() | st.text('ab"\\{}[],: é', max_size=6)
documents = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@given(documents, st.data())
def test_a_place_in_a_broken_document_is_named_by_its_path(document: Any, data: st.DataObject) -> None:
    found = places(document)
    if not found:
        return
    index = data.draw(st.integers(0, len(found) - 1))
    marker = "@@@"
    marked = json.loads(json.dumps(document))
    path = found[index][0]
    if path:
        target = marked
        steps = [
            int(step) if step.isdigit() else step for step in path.replace("[", ".").replace("]", "").split(".") if step
        ]
        for step in steps[:-1]:
            target = target[step]
        target[steps[-1]] = marker
    else:
        marked = marker
    text = json.dumps(marked).encode()
    assert locate(text, text.index(marker.encode())) == path
