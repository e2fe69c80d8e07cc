"""The loop over jobs, in threads of this process."""


def test_every_row_is_done_once(bench):
    bench.fill(1_050)
    bench.queue()
    assert bench.worker().run()
    assert bench.hits() == {1: 1_050}
    assert bench.status() == 2
