"""Sampling from a model for whoever asks: requests in, their answers out as they grow, many at once.

__main__.py   the process: orders on a pipe, answers as events on stdout
sampler.py    the requests that are being answered, and what is told of them when
prompts.py    from a request to token ids, or what is wrong with it
drawing.py    what is drawn, and what draws it
loading.py    the model, and which of the two draws from it
batch.py      all samples together through the transformers model, newcomers joining on the way
vllm_batch.py the samples through vLLM, in a process of its own
choosing.py   from logits to a token, by each sample's own temperature and top_p
texts.py      tokens to text as they come, and the search for stop strings
judging.py    verdicts, beside the sampling
"""
