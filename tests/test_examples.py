"""The examples in the docstrings of what users call, run as they stand."""

import doctest

import numpy as np
import pytest

import tfbig

EXAMPLES = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PLACES = ("train", "evaluate", "predict", "plan", "recipe", "build", "batches", "load")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples run: the one of `train` leaves the run that others use."""
    path = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.mark.parametrize("name", PLACES)
def test_an_example_gives_what_it_says(name, folder):
    function = getattr(tfbig, name)
    docstring = getattr(function, name, function).__doc__  # of a command, its module's function
    names = {"tfbig": tfbig, "np": np}
    example = doctest.DocTestParser().get_doctest(docstring, names, name, None, 0)
    assert example.examples, f"tfbig.{name} has no example"
    said = []
    doctest.DocTestRunner(optionflags=EXAMPLES).run(example, out=said.append)
    assert not said, "".join(said)
