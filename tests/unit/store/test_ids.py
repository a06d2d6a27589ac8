import re
from concurrent.futures import ThreadPoolExecutor

from store.ids import new_id


def test_form() -> None:
    assert re.fullmatch(r"job_[0-7][0-9a-hjkmnp-tv-z]{25}", new_id("job"))


def test_ids_sort_by_creation() -> None:
    ids = [new_id("ds") for _ in range(2000)]
    assert ids == sorted(ids)


def test_ids_of_many_threads_differ() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = [id for part in pool.map(lambda _: [new_id("key") for _ in range(500)], range(8)) for id in part]
    assert len(set(ids)) == len(ids)
