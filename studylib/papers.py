"""What the papers report, as read from their tables; a number that is not here is not claimed to be a paper's."""

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
