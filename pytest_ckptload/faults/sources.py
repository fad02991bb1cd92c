"""The bugs that faults re-enact, each with what it was: reported, and looked up, upstream.

Apart from the faults so that one who cites another has to say here what it is.
"""

from __future__ import annotations

__all__ = ["SOURCES"]

SOURCES = {
    "axolotl-ai-cloud/axolotl#3977": "Parameter hooks lost when a meta Parameter is materialised",
    "bghira/SimpleTuner#2714": "In-place metadata rewrite corrupts checkpoints",
    "Comfy-Org/ComfyUI#3923": "channels_last tensors cannot be saved or lose layout",
    "deepspeedai/DeepSpeed#8479": (
        "Module without keys in the file is skipped, its buffers stay on meta"
    ),
    "espnet/espnet#5615": "map_location to GPU holds two copies",
    "facebookresearch/dinov2#477": "Constructor that reads tensor values fails under meta",
    "facebookresearch/fairscale#50": "Adam state rounded through fp16 on load",
    "facebookresearch/fairscale#380": "Param groups built from an unordered dict",
    "filliptm/ComfyUI_Fill-ChatterBox#52": "torch.load replaced for the whole process",
    "huggingface/accelerate#454": "bf16 weights could not be offloaded",
    "huggingface/accelerate#699": "init_empty_weights initialises on CPU first",
    "huggingface/accelerate#938": (
        "Offloaded module's buffers put on meta though hooks want them resident"
    ),
    "huggingface/accelerate#1197": (
        "load_checkpoint on a meta model recreates tied tensors separately"
    ),
    "huggingface/accelerate#1710": (
        "Buffers not brought back to the device with include_buffers=True"
    ),
    "huggingface/accelerate#2129": "disk_offload of a meta model fails",
    "huggingface/accelerate#2875": (
        "accelerator.load_state fails or mis-loads models with shared tensors"
    ),
    "huggingface/accelerate#3256": "prepare(model) alone leaves the optimizer on old params",
    "huggingface/accelerate#3668": "Assigning a tie inside init_empty_weights does not tie",
    "huggingface/accelerate#3835": "prepare(model) alone leaves the optimizer on old params",
    "huggingface/accelerate#4083": "Tied-params map keyed by data_ptr merges every meta tensor",
    "huggingface/diffusers#10523": "Computed buffers not moved to the device with quantised loads",
    "huggingface/diffusers#12009": "low_cpu_mem_usage leaves missing parameters on meta",
    "huggingface/diffusers#12719": "Quantisation state created on meta",
    "huggingface/huggingface_hub#4901": "save_torch_state_dict KeyError on newer dtypes",
    "huggingface/peft#2113": "low_cpu_mem_usage leaves adapters on CPU",
    "huggingface/peft#2834": "Adapter moved to a meta base layer",
    "huggingface/peft#3676": "Scalar entries crash the size-mismatch filter",
    "huggingface/pytorch-image-models#2350": (
        "Meta loading breaks timm models with computed buffers"
    ),
    "huggingface/transformers#18471": "Integer and bool buffers cast to half",
    "huggingface/transformers#24576": "Recomputed buffer differs from the saved one",
    "huggingface/transformers#25555": (
        "include_buffers meta init breaks non-persistent buffers in from_pretrained"
    ),
    "huggingface/transformers#28331": "mmap on legacy (non-zip) files",
    "huggingface/transformers#29554": "Parameters called gamma or beta are renamed and not loaded",
    "huggingface/transformers#30709": "dtype argument does not reach buffers",
    "huggingface/transformers#30953": (
        "Missing bare Parameters and persistent buffers come back uninitialised"
    ),
    "huggingface/transformers#31970": "Old weight_g/weight_v names not mapped in the meta path",
    "huggingface/transformers#32943": "Integer/quantised tensor cannot become a Parameter",
    "huggingface/transformers#33679": "from_pretrained ignores load_state_dict pre-hooks",
    "huggingface/transformers#34091": (
        "from_pretrained inside torch.device('meta') raises or ignores meta"
    ),
    "huggingface/transformers#36309": "load_state_dict inside __init__ is a no-op under meta",
    "huggingface/transformers#36495": "Meta loader fails for parameters on the root module",
    "huggingface/transformers#37615": "load_state_dict inside __init__ is a no-op under meta",
    "huggingface/transformers#38066": (
        "from_pretrained inside torch.device('meta') raises or ignores meta"
    ),
    "huggingface/transformers#40001": "Missing-key initialiser handed the wrong key list",
    "huggingface/transformers#42460": "Encoder-only checkpoint of a tied model rejected as corrupt",
    "huggingface/transformers#42612": "tie_weights discards a genuinely different lm_head",
    "huggingface/transformers#43429": (
        "Tie flag read from the wrong nested config, head left random"
    ),
    "huggingface/transformers#43957": "Constructor that reads tensor values fails under meta",
    "huggingface/transformers#44589": "dtype='auto' guessed from the wrong tensor",
    "huggingface/transformers#45902": "meta -> to_empty leaves rotary frequencies uninitialised",
    "huggingface/transformers#46014": (
        "Missing bare Parameters and persistent buffers come back uninitialised"
    ),
    "huggingface/transformers#46749": "Tied-params map keyed by data_ptr merges every meta tensor",
    "huggingface/transformers#46849": "Disk-offloaded int64 table rounded to bf16",
    "huggingface/transformers#48154": (
        "Encoder embedding filled from lm_head when the shared key is missing"
    ),
    "huggingface/transformers#48892": (
        "from_pretrained materialises non-persistent buffers with empty memory"
    ),
    "idiap/fast-transformers#103": "eps of LayerNorm is not that of the model it was taken from",
    "Lightning-AI/pytorch-lightning#17308": (
        "load_from_checkpoint returned the model on the wrong device"
    ),
    "Lightning-AI/pytorch-lightning#20119": "Lazy placeholder reaches quantised module",
    "m2lines/Samudra#313": "EMA state overwritten on resume",
    "macwiatrak/Bacformer#33": (
        "Finite but wrong outputs from missing RoPE tables under transformers 5"
    ),
    "meta-pytorch/botorch#3080": "load_state_dict override does not accept assign",
    "meta-pytorch/float8_experimental#288": "Float8/affine-quantised subclasses rejected",
    "meta-pytorch/torchtune#1018": "Saving over the mapped file kills the process",
    "meta-pytorch/torchtune#1075": (
        "A rewrite of the file by someone else shows through loaded weights"
    ),
    "mit-ll-responsible-ai/responsible-ai-toolbox#34": (
        "A wrapper loads its own groups and state, not those of the optimizer inside"
    ),
    "ModelCloud/GPTQModel#1119": (
        "Quantised loader forgets to re-tie after load_checkpoint_in_model"
    ),
    "ModelCloud/GPTQModel#2995": "torch.nn.init stays replaced after from_pretrained",
    "mosaicml/llm-foundry#916": "Meta+assign model takes the file's dtype",
    "ndif-team/nnterp#50": "Activation reads a scalar parameter at build time on meta",
    "nerfstudio-project/nerfstudio#1567": "Prefix taken out of names wherever it stands",
    "Nixtla/neuralforecast#1032": "load_state_dict override does not accept assign",
    "NVIDIA-NeMo/Automodel#2511": (
        "Save drops lm_head because the config says tied though tensors diverged"
    ),
    "NVIDIA-NeMo/Megatron-Bridge#3441": "In-place metadata rewrite corrupts checkpoints",
    "NVIDIA-NeMo/Megatron-Bridge#5680": (
        "Loading without optimizer state advances a fresh optimizer"
    ),
    "NVIDIA/TensorRT-LLM#3324": "Converter ties head silently when the head key is not found",
    "NVIDIA/TransformerEngine#2974": "Quantised tensors not bit-stable through DCP staging",
    "open-mmlab/mmcv#1294": "_metadata lost by savers that copy to a dict",
    "optimizedlearning/mechanic#2": "State keyed by tensor address is lost on reload",
    "pfnet/pytorch-pfn-extras#187": "Lazy load hook replaced params, optimizer lost them",
    "PrimeIntellect-ai/prime-rl#937": "Meta load + FSDP copies the tied head to a wrong value",
    "pytorch/ao#456": "Quantised subclass cannot be copied into",
    "pytorch/ao#630": "Float8/affine-quantised subclasses rejected",
    "pytorch/ao#1021": "Low-bit optimizer state fails to move device on load",
    "pytorch/ao#1122": "Float8/affine-quantised subclasses rejected",
    "pytorch/ao#3314": "8-bit optimizer state cast on load breaks the step",
    "pytorch/pytorch#1489": "State is matched by position even with named parameters",
    "pytorch/pytorch#8481": "Old BatchNorm files raise missing key",
    "pytorch/pytorch#25214": "Tensor bytes mistaken for a zip file",
    "pytorch/pytorch#25892": "map_location to GPU holds two copies",
    "pytorch/pytorch#33439": "Sparse validation ran before storages were filled",
    "pytorch/pytorch#42155": "from_file(shared=True) past free space dies on write",
    "pytorch/pytorch#43706": "Optimizer state cast to the parameter dtype on load",
    "pytorch/pytorch#80809": "Adam cannot resume: the count of steps was moved to the device",
    "pytorch/pytorch#81690": "torch.save lost conj/neg bits",
    "pytorch/pytorch#82412": "map_location to meta is not supported",
    "pytorch/pytorch#84053": "AveragedModel buffers not synced",
    "pytorch/pytorch#91111": "RNN kept old _flat_weights when parameters were replaced",
    "pytorch/pytorch#94670": "Plain floats rejected by weights_only",
    "pytorch/pytorch#96409": "weight_norm could not run on meta",
    "pytorch/pytorch#101688": "Files without a byteorder record misread on big-endian",
    "pytorch/pytorch#102212": "Non-persistent buffers stay on meta after meta+assign",
    "pytorch/pytorch#102549": "mmap on legacy (non-zip) files",
    "pytorch/pytorch#105963": "Copy-mode load into a meta model reports success and loads nothing",
    "pytorch/pytorch#107529": "bf16 checkpoint rejected by weights_only",
    "pytorch/pytorch#113423": "Compiled module exposes _orig_mod. keys",
    "pytorch/pytorch#115285": "Counter left on meta after the previous fix",
    "pytorch/pytorch#116103": "mmap refused pathlib paths",
    "pytorch/pytorch#118326": "Float step from old checkpoint built on the wrong device",
    "pytorch/pytorch#119535": "Prefix handling skipped buffers",
    "pytorch/pytorch#121158": "Optimizer built before assign trains the discarded parameters",
    "pytorch/pytorch#122792": "Compiled module with a non-persistent buffer fails",
    "pytorch/pytorch#123625": "Compiled module exposes _orig_mod. keys",
    "pytorch/pytorch#124942": "full_state_dict load into a meta model needs a process group",
    "pytorch/pytorch#126000": "Copy mode converts values to the module's dtype without notice",
    "pytorch/pytorch#126604": "DCP accepted wrong shapes",
    "pytorch/pytorch#127313": "swap_tensors refused parameters after a backward",
    "pytorch/pytorch#128011": "Shared parameters break optimizer state load",
    "pytorch/pytorch#129079": "Non-tensor optimizer values not restored",
    "pytorch/pytorch#130792": "Ambient torch.device context moves given tensors",
    "pytorch/pytorch#134107": "State is matched by position even with named parameters",
    "pytorch/pytorch#134953": "Sparse CSR could not be rebuilt",
    "pytorch/pytorch#143828": "Empty parameter group loses its hyper-parameters",
    "pytorch/pytorch#145529": "Swap load fails when a weakref exists",
    "pytorch/pytorch#147288": "Optimizer.load_state_dict replaces state tensors instead of copying",
    "pytorch/pytorch#147389": "LazyLinear wrong in_features after load",
    "pytorch/pytorch#148843": "to_empty reallocates tensors already on the target device",
    "pytorch/pytorch#149205": "Optimizer built after a forward holds unsharded params",
    "pytorch/pytorch#149545": "map_location='meta' gives every view its own storage",
    "pytorch/pytorch#158080": "map_location='meta' gives every view its own storage",
    "pytorch/pytorch#184652": "Quantised rebuild accepts strides outside its storage",
    "pytorch/pytorch#185752": "Compiled module exposes _orig_mod. keys",
    "pytorch/pytorch#186796": "Swap load fails when a weakref exists",
    "pytorch/pytorch#188166": "assign=True writes a flag into the caller's _metadata",
    "pytorch/pytorch#188346": "assign=True turns one tied Parameter into two",
    "pytorch/pytorch#192224": "Flattened load of missing state gives an opaque TypeError",
    "pytorch/pytorch#196083": "state_dict/load_state_dict alias state tensors in process",
    "pytorch/rl#529": "load_state_dict into buffers made in inference_mode raises",
    "pytorch/rl#3966": "Loaded state keeps the mapped checkpoint alive",
    "pytorch/torchtitan#3886": "Re-registering parameters turns frozen ones trainable",
    "pytorch/torchtitan#4615": "Resume promotes bf16 moments to fp32",
    "RobTand/prismaquant#968": (
        "Initialiser runs over already loaded modules and overwrites direct writes"
    ),
    "roytseng-tw/Detectron.pytorch#118": "Param groups built from an unordered dict",
    "safetensors/safetensors#164": "Overwrite fails while mapped on Windows",
    "safetensors/safetensors#308": "channels_last tensors cannot be saved or lose layout",
    "safetensors/safetensors#369": "Repeated load_file does not return memory",
    "safetensors/safetensors#448": "bf16 not byte-swapped",
    "safetensors/safetensors#503": "load_file(device=cpu) follows the ambient device",
    "safetensors/safetensors#520": "Key dropped for sharing stays uninitialised or on meta",
    "safetensors/safetensors#762": "save_file over its own source writes zeros",
    "safetensors/safetensors#831": "Lazy conj/neg views saved with physical bytes",
    "safetensors/safetensors#839": "load(bytes) lacks E8M0 and F4",
    "sgl-project/sglang#25332": "Sharded-state keys differ from the model's",
    "sgl-project/sglang#31263": "Weights loaded under inference_mode cannot be updated in place",
    "sgl-project/sglang#33575": (
        "Models share rotary tables kept by the process, which go with one of them"
    ),
    "state-spaces/mamba#993": "dtype/device arguments unreachable behind an early return",
    "Synthyra/FastPLMs#47": "ESM3 rotary table lost on meta construction",
    "tinygrad/tinygrad#14771": "Reader slices shared storages wrongly",
    "tracel-ai/burn#5383": "Reader ignores strides and scrambles non-contiguous tensors",
    "TransformerLensOrg/TransformerLens#1637": (
        "Sub-view Parameters (split QKV) detach from the fused weight under assign"
    ),
    "TransformerLensOrg/TransformerLens#1725": (
        "Partial checkpoint loaded with assign leaves the tied twin stale"
    ),
    "ultralytics/ultralytics#25748": (
        "Models built by a load under inference_mode cannot be changed"
    ),
    "urchade/GLiNER#355": "strict=False + assign leaves missing parameters on meta",
    "vec2text/vec2text#94": "Wrapper model never ties because it does not expose embedding getters",
    "vllm-project/speculators#411": (
        "Counter rounded because the whole optimizer state was saved in bf16"
    ),
    "vllm-project/speculators#899": (
        "Counter rounded because the whole optimizer state was saved in bf16"
    ),
    "vllm-project/vllm#10327": "Unloaded parameters were not reported",
    "vllm-project/vllm#32718": "reload_weights returns cached weights",
    "vllm-project/vllm#34201": "Parameter loses its weight_loader attribute after reload",
    "vllm-project/vllm#51063": "Inference engine ties from config and skips lm_head in the file",
}
