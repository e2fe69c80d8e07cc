"""Random damage to random trees; many more of them are tried by bench/fuzz_import.py."""

import pytest

from tests.metadata_import.fuzzing import fuzz

TREES = range(50)


@pytest.mark.parametrize("seed", TREES)
def test_random_damage_is_imported_whole_or_reported(committed_db, tmp_path, seed):
    assert fuzz(seed, tmp_path) == []
