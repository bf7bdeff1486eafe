"""What the documents say is true: their examples run, their tables are complete."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import attrs
import certifi
import pytest

from duckservice import errors
from duckservice.completion import ChatRequest, Message, TextDelta
from duckservice.config import AdapterName, ProviderConfig, Secret, parse
from duckservice.providers.catalog import make_provider
from tests import provider_pages
from tests.e2e.makers import OPENAI, TEXT
from tests.upstream import answer, open_upstream

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def python_blocks(text: str, word: str) -> list[str]:
    return [b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if word in b]


async def run_block(source: str) -> None:
    code = compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, {"__name__": "readme"})
    if inspect.iscoroutine(result):
        await result


async def test_the_readmes_embedding_example_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (block,) = python_blocks(README, "open_service")
    await run_block(block)
    assert capsys.readouterr().out == "Why do ducks quack?\n" + "Why do ducks quack?"


async def test_the_readmes_supervisors_example_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (block,) = python_blocks(README, "open_supervisor")
    await run_block(block)
    assert capsys.readouterr().out == "5\nroot (one_for_one)\n└── counter\n"


def test_the_readme_has_the_two_setup_commands() -> None:
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/duck demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ):
        assert command in README


def test_every_file_that_the_documents_link_to_exists() -> None:
    for document in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("docs/**/*.md"),
    ]:
        # In Python, `ActorRef[Counter]("counter")` looks like a link.
        prose = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def anchors(document: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in plain}


def test_every_heading_that_the_documents_link_to_exists() -> None:
    for document in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for file, head in re.findall(r"\]\(([^)#: ]*)#([^)]+)\)", document.read_text()):
            target = document.parent / file if file else document
            assert head in anchors(target), f"{document.name}: {file}#{head}"


def test_every_test_that_the_promises_name_exists() -> None:
    text = (ROOT / "docs" / "promises.md").read_text()
    for path in re.findall(r"`(tests/[^`: ]+)", text):
        assert (ROOT / path).exists(), path


def all_errors(
    cls: type[errors.DuckError] = errors.DuckError,
) -> list[type[errors.DuckError]]:
    return [
        sub
        for c in cls.__subclasses__()
        if c.__module__ == errors.__name__  # other tests have errors of their own
        for sub in (c, *all_errors(c))
    ]


@pytest.mark.parametrize("cls", all_errors(), ids=lambda c: c.__name__)
def test_the_table_of_errors_is_complete(cls: type[errors.DuckError]) -> None:
    if cls in {errors.RequestError, errors.ServiceError}:
        return  # bases only; nobody raises them
    row = f"| `{cls.code}` | {cls.status} | `{cls.__name__}` |"
    assert row in (ROOT / "docs" / "errors.md").read_text()


PROVIDERS = ROOT / "docs" / "providers"


def page(adapter: str) -> str:
    return (PROVIDERS / f"{adapter}.md").read_text()


def examples() -> list[tuple[str, str]]:
    return [
        (path.name, block)
        for path in [ROOT / "README.md", *sorted(PROVIDERS.glob("*.md"))]
        for block in re.findall(r"```toml\n(.*?)```", path.read_text(), re.DOTALL)
    ]


def environ_of(text: str) -> dict[str, str]:
    return {
        name: f"{name.lower()}-for-this-test-0123456789"
        for name in re.findall(r'"env:([A-Z0-9_]+)', text)
    }


@pytest.mark.parametrize("adapter", provider_pages.ADAPTERS)
def test_every_adapter_has_a_page_with_an_example_of_it(adapter: AdapterName) -> None:
    configs = [
        parse(block, file=name, environ=environ_of(block))
        for name, block in examples()
        if name == f"{adapter}.md"
    ]
    made = {its.adapter for config in configs for its in config.providers.values()}
    assert adapter in made


def test_every_page_is_of_an_adapter() -> None:
    names = {path.stem for path in PROVIDERS.glob("*.md")}
    assert names - {"README", "adding"} == set(provider_pages.ADAPTERS)


@pytest.mark.parametrize("adapter", provider_pages.ADAPTERS)
def test_a_page_says_what_its_adapter_can(adapter: AdapterName) -> None:
    assert provider_pages.capability_table(adapter) in page(adapter)


@pytest.mark.parametrize("adapter", provider_pages.ADAPTERS)
def test_a_page_says_what_holds_by_default(adapter: AdapterName) -> None:
    if adapter != "mock":
        assert provider_pages.facts_table(adapter) in page(adapter)


def test_the_tables_show_all_that_an_adapter_can() -> None:
    assert provider_pages.fields_of_rows() == provider_pages.all_fields()


def test_the_overview_has_all_adapters() -> None:
    assert provider_pages.overview_table() in page("README")


@pytest.mark.parametrize(("name", "block"), examples())
def test_a_config_in_the_documents_is_accepted_and_usable(
    name: str, block: str
) -> None:
    block = block.replace("/etc/ssl/certs/company.pem", certifi.where())
    config = parse(block, file=name, environ=environ_of(block))
    # Only the keys of this test are not of the right shape.
    assert [w for w in config.warnings if "does not look like a key" not in w] == []
    for provider in config.providers.values():
        assert make_provider(provider).name == provider.name


async def test_the_smallest_adapter_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = python_blocks(page("adding"), "ADAPTER")
    assert len(block.splitlines()) < 40
    module = ModuleType("duckservice.providers.adapters.acme")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(block, "adding.md", "exec"), module.__dict__)
    request = ChatRequest(model="acme-1", messages=(Message.of("user", "Quack?"),))
    refusal = answer(
        b'{"error": {"message": "Acme-1 is out of stock."}}', status=b"400 Bad Request"
    )
    async with open_upstream([[OPENAI.text], [OPENAI.text_stream], [refusal]]) as its:
        provider = make_provider(
            ProviderConfig(
                name="acme",
                adapter="acme",  # type: ignore[arg-type]
                api_key=Secret("acme-key-of-this-test-0123456789"),
                base_url=f"{its.base_url}/v1",
            )
        )
        assert provider.supports_model("acme-1")
        assert not provider.supports_model("gpt-4o")
        completion = await provider.complete(request)
        assert (completion.text, completion.usage.output_tokens) == (TEXT, 3)
        async with provider.stream(request) as batches:
            chunks = [chunk async for batch in batches for chunk in batch]
        texts = [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)]
        assert "".join(texts) == TEXT
        with pytest.raises(errors.ModelNotFound):
            await provider.complete(request)
        with pytest.raises(errors.InvalidRequest, match="seed"):
            await provider.complete(attrs.evolve(request, seed=7))
        await provider.aclose()
    assert [each.header("x-acme-key") for each in its.requests] == [
        "acme-key-of-this-test-0123456789"
    ] * 3
