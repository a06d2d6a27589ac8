from hypothesis import given
from hypothesis import strategies as st

from dashboard import colors

IDS = st.lists(st.text("0123456789abcdef", min_size=8, max_size=8).map("job_{}".format), unique=True, max_size=21)


@given(IDS, st.integers(0, 21))
def test_picking_more_runs_changes_no_colour_that_was_given(ids, cut):
    assert colors.of_runs(ids[:cut]).items() <= colors.of_runs(ids).items()


@given(IDS)
def test_no_two_runs_look_the_same(ids):
    styles = [(color, tuple(dash or ())) for color, dash in colors.of_runs(ids).values()]
    assert len(set(styles)) == len(ids)


def test_a_run_alone_has_the_same_colour_in_every_session():
    # Fixed by its id, not by Python's hash, which differs between processes.
    assert colors.of_runs(["job_01k0000000000000000000aaa1"])["job_01k0000000000000000000aaa1"] == (colors.GREEN, None)


def test_more_runs_than_styles_still_get_one():
    assert len(colors.of_runs([f"job_{index}" for index in range(60)])) == 60


def test_every_colour_is_readable_on_its_background():
    """WCAG's 3 : 1 for graphics, against the page's own backgrounds."""
    for light, dark in (*colors.RUNS, *colors.BENCHMARKS, colors.GRAY):
        assert contrast(light, "#ffffff") >= 3, light
        assert contrast(dark, "#12161d") >= 3, dark


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color):
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
