"""Each public data set, on a small file in the format its makers publish."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import astuple

from features.profiles import ItemProfile, UserProfile
from lab.streams import Request, Stream, StreamError, requests
from lab.streams.logged.datasets import DATASETS
from lab.streams.logged.movielens import MovieLens, Rating
from lab.streams.logged.movielens_stream import movielens_stream


def named(stream: Stream) -> list[Request]:
    return [*requests(stream, "pretrain"), *requests(stream, "live")]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="latin-1" if name.endswith("dat") else "utf-8")
    return folder


def test_movielens_100k_keeps_its_recorded_requests_and_halves() -> None:
    ratings = [Rating(880_000_000.0 + n, f"{n % 2}", f"{n}", float(1 + n % 5)) for n in range(40)]
    data = MovieLens(
        users=[UserProfile("0", 0.0, {"gender": "F"}), UserProfile("1", 0.0)],
        items=[ItemProfile(str(n), 0.0, f"Film {n}") for n in range(40)],
        ratings=ratings,
        regions={"0": "zip1", "1": "other"},
    )
    stream = movielens_stream(data)
    for half in ("pretrain", "live"):
        expected = data.requests(half)
        got = list(requests(stream, half))
        assert [(r.time, r.user_id, r.items, r.clicks) for r in got] == [
            (r.time, r.user_id, r.items, r.clicks) for r in expected
        ]
        assert [r.domain for r in got] == [r.domain for r in expected]


def test_movielens_1m(tmp_path: Path) -> None:
    stream = DATASETS["movielens-1m"](
        write(
            tmp_path,
            ratings__dat="1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
            movies__dat="661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
            "1193::Misérables, Les (1995)::Drama\n",
            users__dat="1::F::1::10::48067\n2::M::56::16::70072\n",
        )
    )
    assert [(r.user_id, r.items, r.clicks, astuple(r.domain)) for r in named(stream)] == [
        ("2", ("1193",), (True,), ("home", "7", "evening")),
        ("1", ("1193", "661"), (True, False), ("home", "4", "evening")),
    ]
    items = {item.item_id: item for item in stream.catalogue.items}
    assert items["1193"].text == "Misérables, Les (1995)"
    assert items["661"].fields["genres"] == ["Animation", "Children's", "Musical"]
    assert stream.catalogue.users[1].fields == {"gender": "M", "age": 56.0, "occupation": "16"}


def test_movielens_latest(tmp_path: Path) -> None:
    stream = DATASETS["movielens-latest"](
        write(
            tmp_path,
            ratings__csv="userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,3,3.5,964981247\n2,1,4.5,1445714994\n",
            movies__csv='movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n3,"Kid, The (1921)",Comedy\n',
        )
    )
    assert [(r.user_id, r.items, r.clicks) for r in named(stream)] == [
        ("1", ("3", "1"), (False, True)), ("2", ("1",), (True,)),
    ]  # fmt: skip
    assert {item.text for item in stream.catalogue.items} == {"Toy Story (1995)", "Kid, The (1921)"}


KUAIRAND_LOG = """user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab
0,3784,20220411,700,1649635199127,1,0,0,0,0,0,1,40560,28466,0,0,0,0,1
0,4303,20220411,700,1649635214233,0,0,0,0,0,0,0,0,16633,0,0,0,0,1
1,3784,20220412,900,1649725199127,0,0,0,0,0,0,0,100,28466,0,0,0,0,4
"""  # noqa: E501


@pytest.mark.parametrize("inner", ["", "data"])
def test_kuairand_pure(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / inner
    folder.mkdir(exist_ok=True)
    header, first, second, third = KUAIRAND_LOG.splitlines()
    (folder / "log_standard_4_08_to_4_21_pure.csv").write_text("\n".join([header, first, second]))
    (folder / "log_standard_4_22_to_5_08_pure.csv").write_text("\n".join([header, third]))
    (folder / "user_features_pure.csv").write_text(
        "user_id,user_active_degree,is_lowactive_period,follow_user_num_range,fans_user_num_range,register_days_range\n"
        '0,full_active,0,"(0,10]","[1,10)",366-730\n1,high_active,0,0,0,730+\n'
    )
    (folder / "video_features_basic_pure.csv").write_text(
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
        "music_id,music_type,tag\n"
        '3784,441,NORMAL,2022-04-06,ShortImport,1.0,28466.0,720,1280,33,9.0,"12,65"\n'
        "4303,8,AD,2022-04-07,Web,1.0,,720,1280,34,4.0,\n"
    )
    stream = DATASETS["kuairand-pure"](tmp_path)
    assert [(r.items, r.clicks, r.domain.scene) for r in named(stream)] == [
        (("3784", "4303"), (True, False), "1"), (("3784",), (False,), "4"),
    ]  # fmt: skip
    assert stream.catalogue.items[0].fields["tag"] == ["12", "65"]
    assert "duration" not in stream.catalogue.items[1].fields
    assert stream.catalogue.users[0].fields["follow_user_num_range"] == "(0,10]"
    assert not stream.converts
    with pytest.raises(StreamError, match="no click is a conversion"):
        DATASETS["kuairand-likes"](tmp_path)
    liked = "\n".join([header, first.replace(",1,0,0,", ",1,1,0,"), first.replace("3784", "4303"), second])
    (folder / "log_standard_4_08_to_4_21_pure.csv").write_text(liked)
    chunk = next(DATASETS["kuairand-likes"](tmp_path).chunks("pretrain"))
    assert chunk.converted is not None and chunk.converted.sum() == 1


NEWS = 'N1\tsports\tnfl\tA "big" game\tThey won.\thttps://x\t[]\t[]\nN2\tnews\tworld\tCalm seas\t\thttps://y\t[]\t[]\n'


def test_mind(tmp_path: Path) -> None:
    behaviours = (
        "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN1-0 N2-1\n2\tU91836\t11/12/2019 6:11:30 PM\t\tN2-0 N1-0\n"
    )
    stream = DATASETS["mind"](write(tmp_path, behaviors__tsv=behaviours, news__tsv=NEWS))
    assert [(r.user_id, r.items, r.clicks, r.domain.period) for r in named(stream)] == [
        ("U13740", ("N1", "N2"), (False, True), "morning"), ("U91836", ("N2", "N1"), (False, False), "evening"),
    ]  # fmt: skip
    items = {item.item_id: item for item in stream.catalogue.items}
    assert items["N1"].text == 'A "big" game. They won.'
    assert items["N2"].fields == {"category": "news", "subcategory": "world"}


def test_mind_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"behaviors\.tsv: impression 'N1' is not news-0 or news-1.*test part"):
        DATASETS["mind"](write(tmp_path, behaviors__tsv="1\tU1\t11/11/2019 9:05:58 AM\t\tN1 N2\n", news__tsv=NEWS))


@pytest.mark.parametrize("title_header", ["item,title\n", ""])
def test_microlens(tmp_path: Path, title_header: str) -> None:
    pairs = [f"{n % 7},{n % 40},{1_583_378_629_552 + n}" for n in range(120)]
    titles = [f"{n},Film number {n}" for n in range(40)]
    (tmp_path / "MicroLens-100k_pairs.csv").write_text("user,item,timestamp\n" + "\n".join(pairs))
    (tmp_path / "MicroLens-100k_title_en.csv").write_text(title_header + "\n".join(titles))
    stream = DATASETS["microlens"](tmp_path)
    rows = named(stream)
    assert len(rows) == 120
    assert all(sum(r.clicks) == 1 and len(r.items) > 5 for r in rows)
    assert rows[0].time == pytest.approx(1_583_378_629.552)
    assert stream.catalogue.items[3].text == "Film number 3"


@pytest.mark.parametrize("header", ["user_id,item_id,timestamp\n", ""])
def test_ninerec(tmp_path: Path, header: str) -> None:
    pairs = [f"u{n % 7},v{n % 40},{1_600_000_000_000 + n}" for n in range(120)]
    (tmp_path / "DY_pair.csv").write_text(header + "\n".join(pairs))
    (tmp_path / "DY_item.csv").write_text("\n".join(f'v{n},韩国电影,"Korean Movie, part {n}"' for n in range(40)))
    stream = DATASETS["ninerec"](tmp_path)
    rows = named(stream)
    assert len(rows) == 120
    assert rows[0].time == pytest.approx(1_600_000_000.0)
    assert stream.catalogue.items[2].text == "Korean Movie, part 2"


def test_ninerec_without_timestamps_is_refused(tmp_path: Path) -> None:
    (tmp_path / "QB_behaviour.tsv").write_text("u14500\tv17551 v165612\n")
    with pytest.raises(StreamError, match="QB and TN are published without"):
        DATASETS["ninerec"](tmp_path)
    (tmp_path / "QB_pair.csv").write_text("u1,v1\n")
    (tmp_path / "QB_item.csv").write_text("v1,a,b\n")
    with pytest.raises(StreamError, match="QB and TN have no timestamps"):
        DATASETS["ninerec"](tmp_path)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_an_empty_folder_is_refused_with_the_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(StreamError, match=r"no such file|no file"):
        DATASETS[name](tmp_path)
