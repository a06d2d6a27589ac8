"""Data sets: uploading, listing, looking into, deleting."""

import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from client._async.calls import AsyncCalls
from client.results import Dataset, DatasetRow, Page, PromptTokens
from client.spec_file import data_references, file_of
from client.transfers import Progress, to_send


class AsyncDatasets(AsyncCalls):
    """Part of `Asym`."""

    async def upload_dataset(
        self,
        file: str | Path | BinaryIO,
        *,
        name: str | None = None,
        filename: str | None = None,
        columns: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Dataset:
        """Upload JSONL, CSV or Parquet, read as it is sent.

        columns: {"prompt": COLUMN, "answer": COLUMN}, as `data.columns` of a spec, where they have unusual names.
        progress: called with the bytes sent so far and the bytes in all (None: a pipe).
        A file with bad lines is refused whole: the AsymError lists them all.
        """
        data = {} if name is None else {"name": name}
        if columns:
            data["columns"] = json.dumps(dict(columns))
        with to_send(file, progress) as (sent, its_name):
            result: Dataset = await self._transport.upload(
                "/datasets", file=sent, filename=filename or its_name, data=data
            )
        return result

    async def upload_files(
        self,
        spec: Mapping[str, Any],
        beside: Path | str,
        *,
        progress: Progress | None = None,
        uploaded: Callable[[str, Dataset], None] | None = None,
    ) -> dict[str, Any]:
        """The spec with every file that its data names uploaded, each once, and replaced by its id.

        beside: the spec's own file, to whose folder their paths are relative. uploaded: called with each one's path
        and data set. SpecFileError, before anything is uploaded, for a file that is not there.
        """
        found = copy.deepcopy(dict(spec))
        references = [reference for reference in data_references(found) if not reference.is_id]
        files = [file_of(reference, Path(beside)) for reference in references]
        ids: dict[tuple[Path, str], str] = {}
        for reference, file in zip(references, files, strict=True):
            same = (file, str(reference.columns))
            if same not in ids:
                dataset = await self.upload_dataset(file, columns=reference.columns, progress=progress)
                if uploaded is not None:
                    uploaded(reference.value, dataset)
                ids[same] = dataset["id"]
            reference.replace(ids[same])
        return found

    def datasets(self, *, name: str | None = None, limit: int | None = None) -> AsyncIterator[Dataset]:
        """Newest first; with `name`, its versions."""
        return self._all("/datasets", {} if name is None else {"name": name}, limit)

    async def dataset(self, dataset_id: str) -> Dataset:
        result: Dataset = await self._transport.json("GET", f"/datasets/{dataset_id}")
        return result

    async def dataset_tokens(self, dataset_id: str, model: str) -> PromptTokens:
        """How many tokens its prompts have for a model whose tokenizer the API's machine has."""
        result: PromptTokens = await self._transport.json(
            "GET", f"/datasets/{dataset_id}/tokens", params={"model": model}
        )
        return result

    async def dataset_rows(
        self, dataset_id: str, *, limit: int = 50, after: int = 0, columns: Mapping[str, str] | None = None
    ) -> Page[DatasetRow]:
        """The rows behind row number `after`, as a trainer with these `data.columns` reads them."""
        params = {"limit": limit, "after": after, **(columns or {})}
        result: Page[DatasetRow] = await self._transport.json("GET", f"/datasets/{dataset_id}/rows", params=params)
        return result

    async def delete_dataset(self, dataset_id: str) -> None:
        """AsymError 409 while a job that has not ended uses it."""
        await self._transport.json("DELETE", f"/datasets/{dataset_id}")
