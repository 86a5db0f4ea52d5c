"Labels on the command line: what cannot be believed, or written, is said before any work."

import pytest

from specanom.cli import main
from specanom.labels import make_labels, read_labels, write_labels


@pytest.fixture
def files(tmp_path, monkeypatch):
    "Two inspectors in the present folder."
    monkeypatch.chdir(tmp_path)
    for name, word in dict(anna='boring', ben='known').items():
        write_labels(make_labels([11, 12], ['interesting', word]), f'{name}.csv')
    (tmp_path / 'bad.csv').write_text('specobjid,label\n1.2E18,boring\n')
    return tmp_path


def test_merged_and_read_again(files, capsys):
    "Two files become one, which is read by what reads labels."
    assert main(['labels', 'anna.csv', 'ben.csv', '--out', 'both.csv']) == 0
    told = capsys.readouterr().out
    assert 'next: specanom rerank RUN --labels both.csv' in told
    merged = read_labels('both.csv')
    assert merged['label'].tolist() == ['interesting', 'disputed']
    assert merged['scanner'].tolist() == ['anna + ben'] * 2


@pytest.mark.parametrize(
    'words, said',
    [
        (['labels', 'bad.csv'], "bad.csv, line 2: specobjid '1.2E18' is no whole"),
        (['labels', 'none.csv'], 'none.csv'),
        (['labels', 'anna.csv', '--out', 'both.txt'], 'must end in .csv'),
        (['labels', 'anna.csv', '--vi', '.'], 'must end in .csv'),
        (['rerank', 'none', '--labels', 'bad.csv'], 'line 2'),
        (['rerank', 'none', '--labels', 'anna.csv'], 'not the folder of a run'),
        (['rerank', 'x', '--labels', 'anna.csv', '--out', 'a.txt'], 'must end in'),
        (['more', 'none', '7'], 'not the folder of a run'),
        (['more', 'none', '7', '--out', 'a.txt'], 'must end in'),
    ],
)
def test_refused_in_one_line(words, said, files, capsys):
    "One sentence that names file, line and remedy; nothing is written."
    before = sorted(path.name for path in files.iterdir())
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told and 'Traceback' not in told
    assert sorted(path.name for path in files.iterdir()) == before
