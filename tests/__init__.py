"""The tests; asserts in the modules that they share show their values too."""

import pytest

pytest.register_assert_rewrite("tests.support")
