"""Every transformers class of the papers' encoders, as a tiny random model saved to a folder of STUDY_MODELS."""

import json

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from studylib.data.dataset import Dataset
from studylib.encoders import registry, text, weights
from studylib.encoders.embeddings import embed
from studylib.errors import StudyError

TITLES = ["steel ruler", "brass ruler long", "nylon bolt", "steel bolt pack of ten"]
D = 16


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("STUDY_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "images").mkdir()
    for item in range(len(TITLES)):
        Image.new("RGB", (40, 30 + item), (60 * item, 200, 10)).save(tmp_path / "images" / f"{item}.jpg")
    items = tuple({"title": title} for title in TITLES)
    return Dataset("toy", ("ann",), (np.arange(3),), len(TITLES), items=items, folder=tmp_path)


def tokenizer():
    words = sorted({word for title in TITLES for word in title.split()})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "</s>", *words])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return hf.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")


def vision_decoder(encoder):
    decoder = hf.TrOCRConfig(vocab_size=20, d_model=D, decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16)
    whole = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    return hf.VisionEncoderDecoderModel(whole)


SMALL = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
VIT = SMALL | {"image_size": 28, "patch_size": 14}


def llama():
    config = hf.LlamaConfig(vocab_size=20, num_key_value_heads=2, **SMALL)
    return hf.LlamaForCausalLM(config)


def t5():
    return hf.T5EncoderModel(hf.T5Config(vocab_size=20, d_model=D, d_kv=8, d_ff=32, num_layers=2, num_heads=2))


def clip_text_model():
    config = hf.CLIPTextConfig(vocab_size=20, projection_dim=12, max_position_embeddings=6, eos_token_id=2, **SMALL)
    return hf.CLIPTextModelWithProjection(config)


def clip_vision_model():
    return hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(projection_dim=12, **VIT))


def donut():
    config = hf.DonutSwinConfig(
        image_size=(32, 32), patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
    )
    return vision_decoder(config)


def trocr():
    return vision_decoder(hf.ViTConfig(**VIT))


def dinov2():
    return hf.Dinov2Model(
        hf.Dinov2Config(hidden_size=D, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    )


def small_pictures(family, side=28):
    # DINOv2's own crop and resize settings are kept out of it: the sizes here are not its.
    return family(size={"height": side, "width": side}, do_center_crop=False)


MODELS = {
    "minilm": (lambda: hf.BertModel(hf.BertConfig(vocab_size=20, **SMALL)), tokenizer, D),
    "mpnet": (lambda: hf.MPNetModel(hf.MPNetConfig(vocab_size=20, **SMALL)), tokenizer, D),
    "llama-3.1-8b": (llama, tokenizer, D),
    "flan-t5-xl": (t5, tokenizer, D),
    "sentence-t5-base": (t5, tokenizer, D),
    "clip-text": (clip_text_model, tokenizer, 12),
    "clip-vit-l14": (clip_vision_model, lambda: small_pictures(hf.CLIPImageProcessor), 12),
    "dinov2-s14": (dinov2, lambda: small_pictures(hf.BitImageProcessor), D),
    "donut-base": (donut, lambda: hf.DonutImageProcessor(size={"height": 32, "width": 32}), 16),
    "trocr-base-printed": (trocr, lambda: small_pictures(hf.ViTImageProcessor), D),
}


def save(tmp_path, name):
    make, processing, dims = MODELS[name]
    torch.manual_seed(1)
    folder = tmp_path / "models" / name
    model = make().eval()
    model.save_pretrained(folder)
    processing().save_pretrained(folder)
    return model, folder, dims


@pytest.mark.parametrize(
    ("model", "positions"),
    [
        (hf.BertModel(hf.BertConfig(vocab_size=20, max_position_embeddings=8, **SMALL)), 8),
        (hf.MPNetModel(hf.MPNetConfig(vocab_size=20, max_position_embeddings=10, **SMALL)), 8),
        (hf.RobertaModel(hf.RobertaConfig(vocab_size=20, max_position_embeddings=10, pad_token_id=3, **SMALL)), 6),
    ],
)
def test_a_text_is_cut_where_the_models_positions_end(model, positions):
    model.eval()
    words = " ".join(["steel"] * 30)
    of_positions = text._means(model, tokenizer(), min(512, text._room(model, tokenizer())))([words])
    assert text._room(model, tokenizer()) == positions
    assert np.allclose(of_positions, text._means(model, tokenizer(), positions)([words]))
    with pytest.raises((IndexError, RuntimeError)):
        text._means(model, tokenizer(), positions + 3)([words])


def test_a_snapshot_without_all_weights_is_not_there(tmp_path):
    assert not weights._has_weights(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "training_args.bin").write_bytes(b"x")
    assert not weights._has_weights(tmp_path)
    (tmp_path / "model-00001.safetensors").write_bytes(b"x")
    assert weights._has_weights(tmp_path)
    index = {"weight_map": {"a": "model-00001.safetensors", "b": "model-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert not weights._has_weights(tmp_path)
    (tmp_path / "model-00002.safetensors").write_bytes(b"x")
    assert weights._has_weights(tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_encoder_from_a_local_folder(name, data, tmp_path):
    _, _, dims = save(tmp_path, name)
    found = embed(data, name, progress=lambda line: None)
    assert found.matrix.shape == (len(TITLES), dims)
    assert np.ptp(found.matrix, axis=0).max() > 1e-6, "items differ"
    again = embed(data, name, progress=lambda line: pytest.fail("cached"))
    assert np.array_equal(found.matrix, again.matrix)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "flan-t5-xl"])
def test_pooling_is_the_mean_over_real_tokens(name, data, tmp_path):
    model, _, _ = save(tmp_path, name)
    model = getattr(model, "model", model)
    found = embed(data, name, progress=lambda line: None).matrix
    for title, row in zip(TITLES, found, strict=True):
        with torch.no_grad():
            alone = model(**{"input_ids": tokenizer()(title, return_tensors="pt").input_ids}).last_hidden_state[0]
        assert np.allclose(alone.mean(0).numpy(), row, atol=1e-5)


def test_trocr_leaves_out_the_class_token_and_donut_has_none(data, tmp_path):
    from studylib.render import Page, render

    model, folder, _ = save(tmp_path, "trocr-base-printed")
    found = embed(data, "trocr-base-printed", progress=lambda line: None).matrix
    processor = hf.AutoImageProcessor.from_pretrained(folder)
    page = render(data.fields(0), Page()).image.convert("RGB")
    with torch.no_grad():
        tokens = model.encoder(processor(images=page, return_tensors="pt")["pixel_values"]).last_hidden_state
    assert tokens.shape[1] == 5
    assert np.allclose(found[0], tokens[0, 1:].mean(0).numpy(), atol=1e-5)


def test_token_zero_is_dropped_unless_it_is_alone(data, tmp_path):
    model, folder, _ = save(tmp_path, "llama-3.1-8b")
    rows = text._means(model.model, text._tokenizer(folder), 32, first=1)(["steel", "steel ruler bolt"])
    with torch.no_grad():
        hidden = model.model(
            input_ids=tokenizer()("steel ruler bolt", return_tensors="pt").input_ids
        ).last_hidden_state[0]
    assert np.allclose(rows[0], hidden[0].numpy(), atol=1e-5)
    assert np.allclose(rows[1], hidden[1:].mean(0).numpy(), atol=1e-5)


def test_folder_that_holds_no_model(data, tmp_path):
    folder = tmp_path / "models" / "llama-3.1-8b"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(
        StudyError, match=r"models/llama-3\.1-8b: transformers\.AutoModel cannot be loaded .*save_pretrained"
    ):
        embed(data, "llama-3.1-8b", progress=lambda line: None)


def test_other_weights_in_the_folder_are_encoded_anew(data, tmp_path):
    save(tmp_path, "flan-t5-xl")
    first = embed(data, "flan-t5-xl", progress=lambda line: None)
    torch.manual_seed(2)
    t5().save_pretrained(tmp_path / "models" / "flan-t5-xl")
    second = embed(data, "flan-t5-xl", progress=lambda line: None)
    assert first.provenance["weights"] != second.provenance["weights"]
    assert not np.allclose(first.matrix, second.matrix)


def test_all_hub_encoders_are_tested_here():
    tested = set(MODELS) | {"deepseek-ocr", "deepseek-ocr-2"}
    assert {row.name for row in registry.ENCODERS.values() if row.hub} == tested


OWN_CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class TinyConfig(PretrainedConfig):
    model_type = "tiny_deepseek"

class Sam(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 6, 256, 256)
    def forward(self, pictures):
        return self.patches(pictures)

class Vision(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.wider = torch.nn.Linear(6, 5)
    def forward(self, pictures, local):
        tokens = self.wider(local.flatten(2).permute(0, 2, 1))
        return torch.cat([1000 + tokens[:, :1], tokens], dim=1)

class Tiny(PreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.sam_model, self.vision_model, self.projector = Sam(), Vision(), torch.nn.Linear(11, 7)
        self.post_init()
"""


def test_deepseek_ocr_runs_its_own_code_only_when_trusted(data, tmp_path, monkeypatch):
    import json

    from safetensors.torch import save_file

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "models" / "deepseek-ocr"
    folder.mkdir(parents=True)
    (folder / "own.py").write_text(OWN_CODE)
    auto = {"AutoConfig": "own.TinyConfig", "AutoModel": "own.Tiny"}
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny_deepseek", "auto_map": auto}))
    draw = torch.Generator().manual_seed(0)
    shapes = {"sam_model.patches": (6, 3, 256, 256), "vision_model.wider": (5, 6), "projector": (7, 11)}
    state = {f"{name}.weight": torch.randn(shape, generator=draw) / 100 for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.randn(shape[0], generator=draw) for name, shape in shapes.items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudyError, match=r"deepseek-ocr runs code of its repository; read it, then set STUDY_TRUST"):
        embed(data, "deepseek-ocr", progress=lambda line: None)
    monkeypatch.setenv("STUDY_TRUST_REMOTE_CODE", "0" * 40)
    found = embed(data, "deepseek-ocr", progress=lambda line: None).matrix
    assert found.shape == (len(TITLES), 7)
    assert np.ptp(found, axis=0).max() > 1e-6
    assert np.abs(found).max() < 500, "the class token is left out"


def test_deepseek_ocr2_projected_tokens(data, tmp_path):
    vision = {
        "sam_config": {
            "hidden_size": 16, "output_channels": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "mlp_dim": 16, "global_attn_indexes": [], "initializer_range": 0.5, "downsample_channels": [8, 16],
        },
        "encoder_config": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "vocab_size": 20, "max_position_embeddings": 400,
        },
    }  # fmt: skip
    written = SMALL | {"vocab_size": 20, "num_key_value_heads": 2, "mlp_layer_types": ["dense"] * 2}
    config = hf.DeepseekOcr2Config(vision_config=vision, text_config=written)
    torch.manual_seed(1)
    folder = tmp_path / "models" / "deepseek-ocr-2"
    hf.DeepseekOcr2ForConditionalGeneration(config).save_pretrained(folder)
    hf.DeepseekOcr2ImageProcessor().save_pretrained(folder)
    found = embed(data, "deepseek-ocr-2", progress=lambda line: None).matrix
    assert found.shape == (len(TITLES), D)
    assert np.ptp(found, axis=0).max() > 1e-7
