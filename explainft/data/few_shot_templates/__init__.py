"""The packaged templates of few-shot prompts, one TOML file each. explainft.data.few_shot reads them."""
