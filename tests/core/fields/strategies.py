"""What header values are made of, as odd as the grammar lets them be."""

from hypothesis import strategies as st

__all__ = ["blanks", "params", "quoted_strings", "texts", "tokens"]

blanks = st.sampled_from(["", "", " ", "\t", " \t "])

tokens = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,8}", fullmatch=True)

_odd = st.sampled_from('"\\<>,;()\t\0 \x7f\udcff')
texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]) | _odd)
"""What a quoted string can say."""

_qdtext = st.characters(exclude_characters='"\\', exclude_categories=["Cc", "Cs"]) | st.sampled_from("\t,;<>=()\udcff")
_quoted_pairs = st.characters(max_codepoint=0x7F, exclude_characters="\r\n").map("\\{}".format)
quoted_strings = st.lists(_qdtext | _quoted_pairs, max_size=6).map(lambda parts: f'"{"".join(parts)}"')


@st.composite
def params(
    draw: st.DrawFn,
    *known: tuple[str, st.SearchStrategy[str]],
    without: tuple[str, ...] = (),
    values_needed: bool = False,
) -> str:
    """Return parameters as received: any, and perhaps one of each of the `known` names with a value of its kind."""
    names = {*without, *(name for name, _ in known)}
    values = tokens | quoted_strings
    if not values_needed:
        values |= st.sampled_from(["", "[::1]"])
    found = [(name, draw(values)) for name in draw(st.lists(tokens, max_size=3)) if name.lower() not in names]
    found += [(name, draw(its_values)) for name, its_values in known if draw(st.booleans())]
    written = ""
    for name, value in draw(st.permutations(found)):
        spelt = draw(st.sampled_from([name, name.upper(), name.lower()]))
        written += f"{draw(blanks)};{draw(blanks)}{spelt}"
        if value:
            written += f"{draw(blanks)}={draw(blanks)}{value}"
    return written.lstrip(" \t")
