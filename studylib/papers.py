"""What the papers report, as read from their tables, and two goals of the study's own, marked so.

A number that is not here is not claimed to be a paper's.
"""

# 000, Table 1: users, items, interactions, mean sequence length, mean words an item.
TABLE_1 = {
    "Luxury": {"users": 1841, "items": 842, "interactions": 18667, "mean_length": 10.14, "mean_words": 121.89},
    "Scientific": {"users": 2843, "items": 1549, "interactions": 19099, "mean_length": 6.72, "mean_words": 120.09},
    "Instruments": {"users": 17112, "items": 6250, "interactions": 136226, "mean_length": 7.96, "mean_words": 103.80},
    "Arts": {"users": 22171, "items": 9416, "interactions": 174079, "mean_length": 7.85, "mean_words": 98.33},
}

_COLUMNS = ("recall@5", "recall@10", "recall@20", "ndcg@5", "ndcg@10", "ndcg@20")

# 000, Table 2: TIGER with Semantic IDs from LLaMA-3.1-8B (text) and from DeepSeek-OCR (ocr), test split.
TABLE_2 = {
    data: {kind: dict(zip(_COLUMNS, values, strict=True)) for kind, values in rows.items()}
    for data, rows in {
        "Scientific": {
            "text": (0.0554, 0.0795, 0.1158, 0.0372, 0.0454, 0.0530),
            "ocr": (0.0586, 0.0840, 0.1181, 0.0402, 0.0481, 0.0569),
        },
        "Luxury": {
            "text": (0.2628, 0.2826, 0.3147, 0.2457, 0.2518, 0.2608),
            "ocr": (0.2685, 0.2944, 0.3178, 0.2482, 0.2558, 0.2618),
        },
        "Instruments": {
            "text": (0.0839, 0.0946, 0.1114, 0.0772, 0.0807, 0.0842),
            "ocr": (0.0859, 0.0970, 0.1169, 0.0793, 0.0829, 0.0872),
        },
        "Arts": {
            "text": (0.0587, 0.0678, 0.0806, 0.0513, 0.0541, 0.0570),
            "ocr": (0.0586, 0.0680, 0.0816, 0.0511, 0.0543, 0.0576),
        },
    }.items()
}

# 000, Table 3: test metrics by pixels of the page; its multimodal rows, with the fusion that it took.
TABLE_3 = {
    data: {row: {page: dict(zip(_COLUMNS, values, strict=True)) for page, values in pages.items()}
           for row, pages in rows.items()}
    for data, rows in {
        "Scientific": {
            "alone": {1024: (0.0586, 0.0840, 0.1181, 0.0402, 0.0481, 0.0569),
                      256: (0.0570, 0.0830, 0.1143, 0.0405, 0.0479, 0.0561)},
            "early fusion": {1024: (0.0600, 0.0829, 0.1164, 0.0426, 0.0493, 0.0571),
                           256: (0.0584, 0.0833, 0.1123, 0.0409, 0.0489, 0.0559)},
        },
        "Luxury": {
            "alone": {1024: (0.2685, 0.2944, 0.3178, 0.2482, 0.2558, 0.2618),
                      256: (0.2715, 0.2897, 0.3197, 0.2489, 0.2554, 0.2627)},
            "late fusion": {1024: (0.2753, 0.2968, 0.3317, 0.2570, 0.2637, 0.2717),
                           256: (0.2741, 0.2980, 0.3270, 0.2550, 0.2626, 0.2700)},
        },
    }.items()
}  # fmt: skip

# 000, Table 4: Instruments, test metrics by OCR encoder.
TABLE_4 = {
    encoder: dict(zip(_COLUMNS, values, strict=True))
    for encoder, values in {
        "donut-base": (0.0846, 0.0961, 0.1131, 0.0784, 0.0820, 0.0861),
        "trocr-base-printed": (0.0850, 0.0964, 0.1157, 0.0773, 0.0810, 0.0849),
        "deepseek-ocr": (0.0859, 0.0970, 0.1170, 0.0793, 0.0829, 0.0872),
    }.items()
}

# 000, sections 4.3.1 and 4.3.2, Table 3: what it prints of fused rows, on pages of 1024 pixels; by data set, row
# (studylib/ablations.py), and text as text (T+I) or picture (O+I). Figures 4 and 5 have more bars, without numbers.
FUSED = {
    "Scientific": {
        "gate": {"T+I": {"recall@5": 0.0531, "ndcg@5": 0.0378}, "O+I": TABLE_3["Scientific"]["early fusion"][1024]},
        "C": {"O+I": {"recall@5": 0.0596, "recall@10": 0.0840, "ndcg@5": 0.0437, "ndcg@10": 0.0505}},
    },
    "Luxury": {
        "letter": {"O+I": {"recall@10": 0.2957, "ndcg@10": 0.2603}},
        "B": {"O+I": TABLE_3["Luxury"]["late fusion"][1024]},
    },
    "Instruments": {"gate": {"O+I": {"recall@10": 0.0983}}, "letter": {"O+I": {"recall@10": 0.0976}}},
}

_ROWS = {"early": ("gate", "letter"), "late": ("B", "C")}

# Test Recall@10 to hold the best fused row against, by table and data set: 000's largest of those above; on
# Instruments, where it prints none of late fusion, the goal that fusion of published IDs was set here.
FUSED_GOALS = {
    table: {
        data: {"every item": max(rows[name]["O+I"]["recall@10"] for name in names if name in rows)}
        for data, rows in FUSED.items()
        if any(name in rows for name in names)
    }
    for table, names in _ROWS.items()
}
FUSED_GOALS["late"]["Instruments"] = {"every item": 0.115}


def fused_of_000(table: str, data: str) -> dict[str, dict[str, float]]:
    """What 000 prints of ``early`` or ``late`` fusion on a data set, by row; {} where it prints nothing.

    >>> fused_of_000("late", "Scientific")
    {'C (O+I)': {'recall@5': 0.0596, 'recall@10': 0.084, 'ndcg@5': 0.0437, 'ndcg@10': 0.0505}}
    """
    rows = {name: of_texts for name, of_texts in FUSED.get(data, {}).items() if name in _ROWS[table]}
    return {f"{name} ({text})": found for name, of_texts in rows.items() for text, found in of_texts.items()}


# No paper's, but the goal that MSCGRec was set here: test Recall@10 of a plain item-kNN (cosine of co-occurrence within
# ten positions), with every item allowed and with seen items left out.
PLAIN_KNN = {
    "Instruments": {"every item": 0.121, "seen left out": 0.133},
    "Scientific": {"every item": 0.126, "seen left out": 0.145},
}

# 002: test Recall@10 by data set, names as in studylib/ablations.py, the row that the others are compared with first.
GRID = {
    "tokenizers": {  # Table 1
        "Beauty": {"residual-kmeans": 0.0639, "r-vq:gradient": 0.0638, "rq-vae": 0.0593},
        "Toys": {"residual-kmeans": 0.0577, "r-vq:gradient": 0.0493, "rq-vae": 0.0514},
        "Sports": {"residual-kmeans": 0.0353, "r-vq:gradient": 0.0352, "rq-vae": 0.0312},
    },
    "encoders": {  # Table 2: Flan-T5 of 780 million, 3 and 11 billion parameters
        "Beauty": {"large": 0.0639, "xl": 0.0639, "xxl": 0.0646},
        "Toys": {"large": 0.0565, "xl": 0.0577, "xxl": 0.0586},
        "Sports": {"large": 0.0347, "xl": 0.0353, "xxl": 0.0363},
    },
    "shapes": {  # Table 3
        "Beauty": {
            "3x256": 0.0639, "3x128": 0.0617, "3x512": 0.0631, "2x256": 0.0618, "4x256": 0.0609, "5x256": 0.0596,
        },
    },
    "user tokens": {  # Table 4
        "Beauty": {
            "base": 0.0618, "user-tokens-2000": 0.0597, "user-tokens-4000": 0.0612, "user-tokens-6000": 0.0611,
            "user-tokens-8000": 0.0610,
        },
    },
    "architecture": {  # Table 5
        "Beauty": {"base": 0.0597, "decoder-only": 0.0438},
        "Toys": {"base": 0.0548, "decoder-only": 0.0399},
        "Sports": {"base": 0.0290, "decoder-only": 0.0226},
    },
    "augmentation": {  # Table 6
        "Beauty": {"base": 0.0597, "no-augmentation": 0.0447},
        "Toys": {"base": 0.0548, "no-augmentation": 0.0442},
        "Sports": {"base": 0.0290, "no-augmentation": 0.0250},
    },
    "collisions": {  # Table 7; there residuals are normalised, so what it leaves to collide stands beside both rows
        "Beauty": {"dedup": 0.0597, "none": 0.0591, "none:normalised": 0.0591},
        "Toys": {"dedup": 0.0548, "none": 0.0532, "none:normalised": 0.0532},
        "Sports": {"dedup": 0.0290, "none": 0.0269, "none:normalised": 0.0269},
    },
    "search": {  # Table 8
        "Beauty": {"base": 0.0597, "free": 0.0609},
        "Toys": {"base": 0.0548, "free": 0.0546},
        "Sports": {"base": 0.0290, "free": 0.0302},
    },
}  # fmt: skip


# 001, Table 3, Beauty (Amazon 2023): (a) ablations, (b) Shapley values.
MSCGREC = {
    "ablations": {
        "full": {"recall@10": 0.0315, "ndcg@10": 0.0168},
        "t5-positions": {"recall@10": 0.0311, "ndcg@10": 0.0166},
        "unconstrained": {"recall@10": 0.0291, "ndcg@10": 0.0154},
        "masked": {"recall@10": 0.0312, "ndcg@10": 0.0166},
    },
    "values": {
        "image": {"recall@10": 0.0076, "ndcg@10": 0.0041},
        "text": {"recall@10": 0.0099, "ndcg@10": 0.0052},
        "collaborative": {"recall@10": 0.0135, "ndcg@10": 0.0072},
    },
}

# 001, Table 2: test metrics by data set, printed in 1/10,000 (NDCG@1 and MRR@1 are Recall@1).
_METHODS_OF_001 = (
    "GRU4Rec", "BERT4Rec", "Caser", "SASRec", "FDSA", "TIGER image", "TIGER text", "LETTER", "CoST", "ETEGRec",
    "MQL4GRec", "MSCGRec",
)  # fmt: skip
TABLE_2_OF_001 = {
    data: {
        metric: {name: value / 10_000 for name, value in zip(_METHODS_OF_001, values, strict=True)}
        for metric, values in rows.items()
    }
    for data, rows in {
        "Beauty": {
            "recall@1": (46, 42, 29, 35, 50, 30, 45, 53, 43, 54, 48, 60),
            "recall@5": (155, 146, 105, 204, 169, 96, 148, 168, 147, 182, 148, 204),
            "recall@10": (247, 233, 174, 317, 270, 147, 226, 253, 231, 284, 237, 315),
            "ndcg@5": (100, 94, 67, 122, 110, 63, 96, 111, 95, 118, 98, 132),
            "ndcg@10": (130, 122, 89, 158, 142, 79, 122, 138, 122, 150, 127, 168),
            "mrr@5": (82, 77, 54, 95, 90, 52, 80, 91, 78, 97, 82, 109),
            "mrr@10": (95, 88, 63, 110, 104, 59, 90, 103, 89, 111, 93, 123),
        },
        "Sports": {
            "recall@1": (39, 36, 26, 16, 51, 25, 45, 45, 44, 51, 40, 53),
            "recall@5": (134, 124, 92, 184, 170, 82, 142, 141, 143, 169, 123, 175),
            "recall@10": (217, 197, 152, 289, 269, 127, 218, 212, 219, 262, 206, 272),
            "ndcg@5": (87, 80, 59, 103, 111, 53, 94, 93, 94, 110, 82, 114),
            "ndcg@10": (114, 103, 78, 136, 143, 68, 118, 116, 118, 140, 108, 145),
            "mrr@5": (72, 65, 48, 76, 91, 44, 78, 77, 77, 91, 68, 94),
            "mrr@10": (83, 75, 56, 89, 104, 50, 88, 87, 87, 103, 79, 106),
        },
        "PixelRec": {
            "recall@1": (59, 60, 34, 44, 48, 6, 4, 26, 2, 47, 16, 66),
            "recall@5": (198, 212, 120, 215, 172, 21, 15, 91, 7, 163, 63, 221),
            "recall@10": (303, 328, 187, 335, 270, 32, 26, 142, 11, 250, 102, 334),
            "ndcg@5": (129, 137, 77, 130, 110, 14, 10, 59, 4, 106, 39, 144),
            "ndcg@10": (163, 174, 99, 169, 142, 17, 13, 75, 6, 133, 52, 181),
            "mrr@5": (107, 112, 63, 103, 90, 10, 9, 48, 3, 87, 31, 119),
            "mrr@10": (120, 127, 72, 119, 103, 12, 10, 55, 4, 98, 37, 134),
        },
    }.items()
}


def ablation_of_001(name: str) -> dict[str, float]:
    """What 001's Table 3a changes against its whole model, in %, by metric; of a row that it has not, nothing.

    >>> {metric: round(change, 1) for metric, change in ablation_of_001("unconstrained").items()}
    {'recall@10': -7.6, 'ndcg@10': -8.3}
    """
    whole = MSCGREC["ablations"]["full"]
    return {metric: 100 * (value / whole[metric] - 1) for metric, value in MSCGREC["ablations"].get(name, {}).items()}


def change_of_001(other: str, data: str = "Beauty") -> dict[str, float]:
    """By how much MSCGRec is ahead of another method in 001's Table 2, in %, by metric; no such method, nothing.

    >>> {metric: round(change_of_001("SASRec")[metric], 1) for metric in ("recall@1", "recall@10")}
    {'recall@1': 71.4, 'recall@10': -0.6}
    """
    rows = {metric: row for metric, row in TABLE_2_OF_001[data].items() if other in row}
    return {metric: 100 * (row["MSCGRec"] / row[other] - 1) for metric, row in rows.items()}


# 004, by data set. Table 1: AMI of codes; Table 2: users hit alike; Table 3: Hits@5 of a part and of the whole ID.
OVERLAP_OF_004 = {
    "AMI, image and text": {"Toys": 0.2765, "Beauty": 0.2920, "Sports": 0.3976},
    "AMI, image and fused": {"Toys": 0.3892, "Beauty": 0.3937, "Sports": 0.5105},
    "AMI, text and fused": {"Toys": 0.4829, "Beauty": 0.5539, "Sports": 0.6351},
    "identical hits, image and text": {"Toys": 0.3287, "Beauty": 0.4724, "Sports": 0.2775},
    "identical hits, image and fused": {"Toys": 0.3881, "Beauty": 0.4911, "Sports": 0.3675},
    "identical hits, text and fused": {"Toys": 0.4612, "Beauty": 0.4866, "Sports": 0.4584},
}
PARTS_OF_004 = {
    "text codes": {"Toys": 0.0598, "Beauty": 0.0505, "Sports": 0.0195},
    "image codes": {"Toys": 0.0495, "Beauty": 0.0417, "Sports": 0.0193},
    "whole ID": {"Toys": 0.0482, "Beauty": 0.0336, "Sports": 0.0184},
}

# 004, Table 5: MRR, NDCG (it prints no cut-off of these) and Hits@5 (Recall@5) on Toys, Beauty and Sports.
TABLE_5_OF_004 = {
    "LETTER": ((0.0169, 0.0201, 0.0300), (0.0048, 0.0059, 0.0092), (0.0018, 0.0023, 0.0036)),
    "HC-indexer": ((0.0071, 0.0088, 0.0138), (0.0074, 0.0090, 0.0138), (0.0029, 0.0036, 0.0055)),
    "SASRec": ((0.0047, 0.0056, 0.0084), (0.0084, 0.0105, 0.0167), (0.0036, 0.0042, 0.0059)),
    "TIGER, BERT": ((0.0173, 0.0212, 0.0331), (0.0077, 0.0101, 0.0173), (0.0050, 0.0062, 0.0098)),
    "TIGER, CLIP text": ((0.0217, 0.0275, 0.0451), (0.0161, 0.0199, 0.0316), (0.0103, 0.0127, 0.0203)),
    "TIGER, CLIP image": ((0.0198, 0.0245, 0.0389), (0.0143, 0.0177, 0.0283), (0.0062, 0.0077, 0.0121)),
    "MGR-EF": ((0.0231, 0.0294, 0.0486), (0.0150, 0.0187, 0.0298), (0.0086, 0.0105, 0.0163)),
    "MGR-LF": ((0.0220, 0.0284, 0.0482), (0.0169, 0.0210, 0.0336), (0.0091, 0.0114, 0.0184)),
    "MGR-LF++": ((0.0280, 0.0349, 0.0562), (0.0176, 0.0216, 0.0334), (0.0102, 0.0130, 0.0206)),
}


def table_5_of_004() -> dict[tuple[str, str], dict[str, float]]:
    """004's Table 5: by data set and metric, the value of each row.

    >>> table_5_of_004()["Toys", "Hits@5"]["MGR-LF++"]
    0.0562
    """
    metrics = ("MRR", "NDCG", "Hits@5")
    return {
        (data, metric): {row: values[i][j] for row, values in TABLE_5_OF_004.items()}
        for i, data in enumerate(("Toys", "Beauty", "Sports"))
        for j, metric in enumerate(metrics)
    }


def grid(*tables: str) -> dict[str, dict[str, float]]:
    """Relative changes of Recall@10 in tables of 002, by data set and row, each against its own table's reference.

    >>> {data: round(rows["free"], 3) for data, rows in grid("search").items()}
    {'Beauty': 0.02, 'Toys': -0.004, 'Sports': 0.041}
    """
    changes: dict[str, dict[str, float]] = {}
    for table in tables:
        for data, rows in GRID[table].items():
            base = next(iter(rows.values()))
            for name, value in list(rows.items())[1:]:
                changes.setdefault(data, {})[name] = value / base - 1
    return changes


def resized(data: str) -> dict[str, dict[str, float]]:
    """000, Table 3: relative change from 1024 to 256 pixels in %, by row and metric; none of data that it has not.

    >>> round(resized("Scientific")["alone"]["recall@10"], 2), resized("planted")
    (-1.19, {})
    """
    return {
        row: {metric: 100 * (pages[256][metric] / pages[1024][metric] - 1) for metric in pages[1024]}
        for row, pages in TABLE_3.get(data, {}).items()
    }
