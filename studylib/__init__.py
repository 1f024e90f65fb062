"""How item content becomes Semantic IDs, and what that does to generative recommendation.

The data flows one way:

    Dataset -> pages/pictures -> Embeddings -> SemanticIds -> Trial -> Scores -> table / figure
"""

__version__ = "0.1.0"
