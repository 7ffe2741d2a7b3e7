"""User-Agent and Server, and comments in all their corners."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msilo_core.errors import LocalError, ParseError
from msilo_core.fields import Comment, Product, ServerValue, parse_products
from tests.core.fields.strategies import blanks, texts, tokens


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", ()),
        # RFC 3261 sections 20.35 and 20.41.
        ("HomeServer v2", (Product("HomeServer"), Product("v2"))),
        ("Softphone Beta1.5", (Product("Softphone"), Product("Beta1.5"))),
        (" msilo/0.1.0\t(Linux) ", (Product("msilo", "0.1.0"), Comment("Linux"))),
        ("a / 1 b /2 c/ 3", (Product("a", "1"), Product("b", "2"), Product("c", "3"))),
        ("kamailio (5.6.3 (x86_64/linux))", (Product("kamailio"), Comment("5.6.3 (x86_64/linux)"))),
        ("(a) (b)", (Comment("a"), Comment("b"))),
        ("FPBX-13.0.190.7(13.13.1)", (Product("FPBX-13.0.190.7"), Comment("13.13.1"))),
        ("(a)b/1(c)", (Comment("a"), Product("b", "1"), Comment("c"))),
    ],
)
def test_products(text: str, values: tuple[ServerValue, ...]) -> None:
    assert parse_products(text) == values


@pytest.mark.parametrize(
    ("text", "comment"),
    [
        ("()", ""),
        ("(\t )", ""),
        ("( a  b )", "a  b"),
        ("(((deep)))", "((deep))"),
        ("( (a) (b) )", "(a) (b)"),
        ("(a(b)c(d(e))f)", "a(b)c(d(e))f"),
        (r"(\))", ")"),
        (r"(\()", "("),
        (r"(\\)", "\\"),
        (r"(\\\))", "\\)"),
        (r"(a\b)", "ab"),
        # A blank behind a backslash is of the text, and those outside of it are not.
        ("(  \\  )", " "),
        ("(\\ )", " "),
        ("(a\\ \\  )", "a  "),
        ("(\\\t\\\0\\\x7f)", "\t\0\x7f"),
        # Quotes mean nothing here, and so do the separators of other headers.
        ('("a)', '"a'),
        ("(;,<>@=[]{}?/:)", ";,<>@=[]{}?/:"),
        ("(Żółw)", "Żółw"),
        ("(\udcff)", "\udcff"),
    ],
)
def test_comments(text: str, comment: str) -> None:
    assert parse_products(text) == (Comment(comment),)
    assert parse_products(f"a {text} b") == (Product("a"), Comment(comment), Product("b"))


@pytest.mark.parametrize(
    "text",
    ["(", ")", "(a", "(a))", "((a)", r"(a\)", "(a\\", "(a\0)", "(\x7f)", "(\\é)", "(\\\r)", "(\r\n)", "a/", "/1",
     "a//1", "a/1/2", "a, b", "a;b", '"a"', "a/(b)", "é", "a@b", "a\0"],
)  # fmt: skip
def test_what_is_no_product_and_no_comment(text: str) -> None:
    with pytest.raises(ParseError):
        parse_products(text)


@given(texts, blanks)
def test_any_text_can_be_a_comment(text: str, blank: str) -> None:
    written = str(Comment(text))

    assert parse_products(written) == (Comment(text),)
    assert parse_products(f"({blank}{written[1:-1]}{blank})") == (Comment(text),)
    assert parse_products(f"(x{written}y)") == (Comment(f"x({text})y"),)


@pytest.mark.parametrize(
    ("text", "written"),
    [("a (b) c", "(a (b) c)"), ("a) (b", r"(a\) \(b)"), ("(", r"(\()"), (" \\ ", r"(\ \\\ )"), (" ", r"(\ )")],
)
def test_parentheses_that_pair_are_written_without_backslashes(text: str, written: str) -> None:
    assert str(Comment(text)) == written


@pytest.mark.parametrize("text", ["\r", "a\nb", "a\r\n b"])
def test_no_comment_says_a_line_break(text: str) -> None:
    with pytest.raises(LocalError):
        str(Comment(text))


@given(st.lists(st.builds(Product, tokens, st.just("") | tokens) | texts.map(Comment), max_size=5))
def test_products_are_written_as_they_are_read(values: list[ServerValue]) -> None:
    assert parse_products(" ".join(map(str, values))) == tuple(values)
