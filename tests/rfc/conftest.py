"""Settings of the tests against RFCs."""

import pytest

# So that an assertion in there shows its values.
pytest.register_assert_rewrite("tests.rfc.torture")
