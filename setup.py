"""pip reads everything from settings.ini, the project's one description of itself.

nbdev's stock setup.py does not know Python 3.11; this one asks only for what setuptools needs.
"""

from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
c = config["DEFAULT"]
stages = {"3": "3 - Alpha", "4": "4 - Beta", "5": "5 - Production/Stable"}

setup(
    name=c["lib_name"],
    version=c["version"],
    description=c["description"],
    keywords=c["keywords"].split(),
    author=c["author"],
    author_email=c["author_email"],
    url=c["git_url"],
    project_urls={
        "Documentation": c["doc_host"] + c["doc_baseurl"],
        "Issues": c["git_url"] + "/issues",
        "Changelog": f"{c['git_url']}/blob/{c['branch']}/CHANGELOG.md",
    },
    classifiers=[
        f"Development Status :: {stages[c['status']]}",
        f"Intended Audience :: {c['audience']}",
        f"Natural Language :: {c['language']}",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)),
        "Topic :: Scientific/Engineering :: Astronomy",
        "Typing :: Typed",
    ],
    license="BSD-3-Clause",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    packages=find_packages(include=[c["lib_path"] + "*"]),
    package_data={c["lib_path"]: ["py.typed", "data/*", "chapters/*", "page/*"]},
    package_dir={
        "": "."
    },  # an editable install is then a path, which a clone in the working folder does not hide
    python_requires=">=" + c["min_python"],
    install_requires=c["requirements"].split(),
    extras_require={
        "dev": c["dev_requirements"].split(),
        "tune": c["tune_requirements"].split(),
        "tables": c["tables_requirements"].split(),
        "papers": c["papers_requirements"].split(),
        "scale": c["scale_requirements"].split(),
    },
    entry_points={
        "console_scripts": c["console_scripts"].split(),
        "nbdev": [f"{c['lib_path']}={c['lib_path']}._modidx:d"],
    },
)
