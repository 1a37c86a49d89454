"""Words that users of Keras, PyTorch or Hugging Face type: our name -> their words for it.

Data alone; `suggestions` looks it up when a name is not known, and a test checks that the names on
the left exist. Words are lower-case, with _ for -.
"""

from __future__ import annotations

# The first target that an experiment has is suggested; {value} is what was given.
SETTINGS = {
    "train.length={value}ep": (
        "epoch epochs n_epoch n_epochs num_epochs num_train_epochs max_epochs"
    ),
    "train.length={value}": (
        "steps max_steps num_steps n_steps total_steps train_steps num_train_steps "
        "max_train_steps iterations max_iters max_iterations num_iterations n_iters duration"
    ),
    "train.batch_size": (
        "batch bs batchsize minibatch train_batch_size per_device_train_batch_size "
        "per_gpu_train_batch_size per_device_batch_size global_batch_size total_batch_size "
        "mini_batch_size"
    ),
    "train.accumulate": (
        "gradient_accumulation gradient_accumulation_steps grad_accum grad_accum_steps "
        "accumulation_steps accumulate_grad_batches accum_steps micro_batches"
    ),
    "train.remat": "gradient_checkpointing activation_checkpointing recompute use_reentrant",
    "train.evaluate_every": (
        "eval_every eval_steps eval_interval eval_strategy evaluation_strategy evaluation_steps "
        "val_check_interval check_val_every_n_epoch validation_freq eval_freq "
        "evaluate_during_training"
    ),
    "train.save_every": (
        "save_steps save_strategy save_interval save_freq checkpoint_every checkpoint_interval "
        "ckpt_interval"
    ),
    "train.keep": "save_total_limit max_to_keep keep_checkpoint_max keep_checkpoints save_top_k",
    "train.ema": "ema_decay use_ema ema_momentum ema_rate polyak",
    "train.patience": (
        "early_stopping early_stop early_stopping_patience early_stopping_rounds "
        "early_stopping_threshold"
    ),
    "train.final_split": "do_eval do_test do_predict eval_split",
    "train.tensorboard": "tb report_to use_tensorboard logger",
    "optim.optimizer": "optim opt optimiser solver optimizer_name optimizer_type opt_name",
    "optim.learning_rate": (
        "lr learningrate base_lr max_lr peak_lr init_lr initial_lr learning_rate_init eta "
        "step_size blr"
    ),
    "optim.schedule": (
        "scheduler sched lr_schedule lr_scheduler lr_scheduler_type lr_decay "
        "learning_rate_schedule decay_type anneal lr_policy"
    ),
    "optim.warmup={value}ep": "warmup_epochs",
    "optim.warmup={value}": "warmup_steps num_warmup_steps warmup_iters n_warmup_steps",
    "optim.warmup": "warmup_ratio warmup_fraction warmup_proportion warm_up",
    "optim.final_fraction": (
        "min_lr end_lr final_lr eta_min lr_end minimum_learning_rate min_learning_rate min_lr_ratio"
    ),
    "optim.step_at": "milestones lr_steps decay_steps step_milestones",
    "optim.step_factor": "gamma lr_gamma decay_rate drop_factor lr_decay_rate",
    "optim.weight_decay": (
        "wd decay l2 weightdecay weight_decay_rate l2_reg l2_regularization regularization"
    ),
    "optim.clip_norm": (
        "clip clipnorm global_clipnorm grad_clip max_grad_norm grad_norm clip_grad clip_grad_norm "
        "gradient_clip gradient_clipping gradient_clip_val max_norm clipvalue"
    ),
    "optim.beta_1": "beta1 adam_beta1 b1 betas adam_beta_1",
    "optim.beta_2": "beta2 adam_beta2 b2 adam_beta_2",
    "optim.epsilon": "eps adam_epsilon adam_eps",
    "device.precision=float16": "fp16 half float16 use_fp16 amp",
    "device.precision=bfloat16": "bf16 bfloat16 use_bf16",
    "device.precision": (
        "mixed_precision dtype torch_dtype autocast amp_dtype precision_policy fp32 tf32"
    ),
    "device.jit": "compile jit_compile torch_compile xla use_xla run_eagerly",
    "device.block": "steps_per_execution steps_per_loop",
    "device.strategy=mirrored device.count={value}": (
        "gpus gpu n_gpu n_gpus num_gpus ngpus devices num_devices nproc nproc_per_node "
        "num_processes"
    ),
    "device.strategy": (
        "distributed ddp fsdp distribution data_parallel dataparallel parallel multi_gpu "
        "distribute_strategy accelerator"
    ),
    "device.sync_batch_norm": "sync_bn sync_batchnorm syncbn",
    "adapt=lora": "lora peft use_lora use_peft peft_config lora_config",
    "adapt.rank": "r lora_r lora_rank lora_dim",
    "adapt.alpha": "lora_alpha",
    "adapt.layers": "target_modules lora_target_modules",
    "adapt.whole": "modules_to_save",
    "seed": "random_seed random_state rng manual_seed rng_seed rand_seed global_seed data_seed",
    "model.width": (
        "hidden_size hidden_dim hidden_units hidden n_hidden d_model dim embed_dim embedding_dim "
        "emb_dim n_embd n_embed embedding_size num_units units neurons"
    ),
    "model.depth": (
        "layers num_layers n_layer n_layers num_hidden_layers blocks num_blocks n_blocks "
        "num_layer encoder_layers decoder_layers transformer_layers"
    ),
    "model.filters": (
        "num_filters n_filters out_channels hidden_channels layers num_layers n_layers depth stages"
        " conv_filters feature_maps"
    ),
    "model.units": (
        "hidden_size hidden_dim hidden_units hidden hidden_layers hidden_layer_sizes hidden_sizes "
        "n_hidden num_units width neurons dim layers num_layers n_layer n_layers depth "
        "dense_units rnn_units lstm_units"
    ),
    "model.heads": "n_head n_heads num_heads nhead num_head num_attention_heads attention_heads",
    "model.kv_heads": "num_key_value_heads n_kv_heads num_kv_heads n_kv_head",
    "model.hidden": "intermediate_size n_inner ffn_dim d_ff dim_feedforward ff_dim ffn_hidden_size",
    "model.mlp_ratio": "intermediate_size ffn_dim d_ff dim_feedforward mlp_dim expansion_factor",
    "model.dropout": (
        "drop drop_rate dropout_rate dropout_prob p_dropout hidden_dropout hidden_dropout_prob "
        "resid_pdrop embd_pdrop attn_pdrop attention_dropout recurrent_dropout classifier_dropout"
    ),
    "model.activation": (
        "act act_fn activation_fn activation_function hidden_act nonlinearity act_layer"
    ),
    "model.normalization": (
        "norm norm_layer batch_norm batchnorm use_bn bn layer_norm layernorm rms_norm "
        "normalisation norm_type"
    ),
    "model.initializer": "init_method kernel_initializer weight_init initialisation initialiser",
    "model.kernel": "kernel_size filter_size ksize",
    "model.convolutions": "num_convs convs_per_stage",
    "model.summary": "pool pooling_type global_pool cls_token",
    "model.patch": "patch_size patches",
    "model.positions": (
        "pos_emb pos_embed positional_encoding position_embedding position_embedding_type rotary "
        "rope"
    ),
    "model.rope_base": "rope_theta rotary_base",
    "model.tied": "tie_word_embeddings tie_embeddings weight_tying tie_weights",
    "model.bidirectional": "bidir bi",
    "model={value}": "arch architecture net network backbone model_name model_type model_class",
    "init": (
        "pretrained weights init_from model_name_or_path from_pretrained load_weights finetune "
        "initial_weights pretrained_path"
    ),
    "data={value}": "dataset dataset_name ds train_dataset train_data data_name",
    "data.path": (
        "data_dir data_path datadir data_root data_folder root folder directory dir train_dir "
        "train_file train_path dataset_path file input_file text_file image_dir images"
    ),
    "data.side": (
        "image_size img_size imgsz img_height img_width input_size resolution size image_side "
        "target_size height crop_size"
    ),
    "data.channels": "num_channels in_channels n_channels in_chans color_mode grayscale",
    "data.context": (
        "max_length max_len maxlen max_seq_length max_seq_len seq_len seq_length sequence_length "
        "block_size context_length context_size n_ctx n_positions max_position_embeddings window"
    ),
    "data.vocabulary": "vocab vocab_size n_vocab num_tokens vocabulary_size",
    "data.vocabulary_path": (
        "vocab_file vocab_path tokenizer_file tokenizer_path tokenizer_name merges_file"
    ),
    "data.tokenizer": "tokenizer_type tokenization",
    "data.validation_share": (
        "val_split validation_split valid_split val_size validation_size val_ratio val_fraction"
    ),
    "data.validation": (
        "val_split validation_split valid_split val_size validation_size val_ratio val_fraction"
    ),
    "data.test_share": "test_split test_size test_ratio test_fraction",
    "data.test": "test_split test_size test_ratio test_fraction",
    "data.builder": "tfds_name dataset_config",
    "task={value}": "objective_name problem_type",
    "task.label_smoothing": "label_smoothing_factor smoothing smooth",
    "task.flip": ("hflip horizontal_flip random_flip fliplr mirror"),
    "task.changes": (
        "augment augmentation data_augmentation aug randaugment rand_augment randaug auto_augment"
        " autoaugment aa trivial_augment"
    ),
    "task.mixup": "mixup_alpha mix_up",
    "task.cutmix": "cutmix_alpha cut_mix",
    "task.class_weights": "class_weight cls_weight balanced_weights weighted_loss pos_weight",
    "task.focal": "focal_loss focal_gamma gamma",
    "train.freeze": "freeze_layers frozen frozen_layers frozen_stages freeze_backbone trainable",
    "optim.first_rate": (
        "layer_decay layerwise_lr_decay layer_wise_lr_decay llrd discriminative_lr backbone_lr"
        " lr_mult lr_multiplier"
    ),
    "data.random_area": "random_resized_crop rrc scale min_scale",
    "data.centre": "crop_pct center_crop crop_ratio",
    "task.crop_padding": (
        "random_crop crop padding shift translate width_shift_range height_shift_range"
    ),
    "task.cutout": "random_erasing reprob erasing",
    "run={value}": (
        "output output_dir out out_dir outdir logdir log_dir logging_dir save_dir savedir workdir "
        "work_dir model_dir run_dir run_name default_root_dir exp_name experiment_name "
        "checkpoint_dir ckpt_dir dir_name save_path"
    ),
    "--resume {value}": (
        "resume resume_from resume_from_checkpoint resume_training ckpt ckpt_path checkpoint "
        "checkpoint_path load load_checkpoint restore continue restart"
    ),
    "tune.trials": "n_trials num_trials max_trials num_samples n_iter trials",
    "tune.time": "timeout time_budget time_limit",
    "tune.algorithm": "sampler search_alg search_algorithm tuner algorithm",
    "tune.objective": "metric_for_best_model objective directions",
    "tune.workers": "n_jobs max_concurrent_trials workers_per_search",
    "tune.seeds": "executions_per_trial",
}

# Why there is no such setting.
UNKNOWN = {
    "is decided by the task.": "loss criterion loss_fn loss_function metrics metric",
    "needs no setting: an accelerator is used where there is one; CUDA_VISIBLE_DEVICES hides it.": (
        "cuda use_cuda no_cuda use_gpu use_cpu cpu gpu_id gpu_ids local_rank device "
        "cuda_visible_devices"
    ),
    "needs no setting: reading goes on beside the training by itself.": (
        "num_workers n_workers dataloader_num_workers workers pin_memory prefetch prefetch_factor "
        "use_multiprocessing persistent_workers"
    ),
    "needs no setting: training examples are shuffled anew in each epoch, by the seed.": (
        "shuffle shuffle_buffer buffer_size shuffle_buffer_size"
    ),
    "needs no setting: the best checkpoint is kept and is what is evaluated.": (
        "save_best save_best_only load_best_model_at_end restore_best_weights"
    ),
    "needs no setting: pixels are brought to the training split's mean 0 and deviation 1.": (
        "normalize rescale standardize mean std"
    ),
    "needs no setting: it is the number of the folders, or what the dataset says.": (
        "num_classes n_classes classes num_labels nb_classes"
    ),
}

# Choices, components, formats, splits: a target is suggested where it is among those expected.
VALUES = {
    "log": "loguniform log_uniform qloguniform lograndint",
    "lin": "uniform float quniform",
    "int": "randint integer",
    "in": "choice categorical choose grid_search",
    "float32": "fp32 full single 32 tf32",
    "float16": "fp16 half 16 mixed_float16 16_mixed amp",
    "bfloat16": "bf16 mixed_bfloat16 bf16_mixed brain",
    "adamw": "adamw_torch adamw_torch_fused adamw_hf adamw_bnb_8bit adamw_8bit",
    "sgd": "momentum gradient_descent nesterov",
    "cosine": "cos cosine_decay cosineannealinglr cosine_with_warmup cosine_annealing onecycle",
    "step": "steplr multisteplr piecewise exponential",
    "constant": "constant_with_warmup fixed none off",
    "mirrored": "ddp multi_gpu mirroredstrategy dp data_parallel fsdp nccl",
    "multi_worker": "multiworkermirrored multi_node cluster horovod",
    "single": "cpu gpu cuda one one_device",
    "relu2": "squared_relu relu_squared",
    "silu": "swish",
    "batch": "bn batch_norm batchnorm batch_normalization",
    "layer": "ln layer_norm layernorm",
    "rms": "rmsnorm rms_norm",
    "rope": "rotary",
    "learned": "absolute learnt",
    "average": "avg mean gap",
    "max": "maximum",
    "ready": "pretrained gpt2 sentencepiece hf huggingface",
    "bpe": "byte_bpe byte_level_bpe tiktoken",
    "cnn": (
        "resnet resnet18 resnet34 resnet50 convnet conv conv2d lenet vgg vgg16 efficientnet "
        "mobilenet convnext"
    ),
    "mlp": "dense fc ffn feedforward perceptron linear nn",
    "lstm": "rnn gru bilstm recurrent",
    "lstm_lm": "rnn gru lstm recurrent",
    "gpt": "transformer gpt2 gpt_2 llama decoder nanogpt lm mistral qwen",
    "vit": "transformer vision_transformer attention vit_b_16 deit",
    "image_folder": "folder images pictures imagefolder directory image_directory own",
    "text_files": "text txt file files folder jsonl corpus own",
    "tfds_images": "tfds imagenet imagenet2012 tensorflow_datasets",
    "tiny_shakespeare": "shakespeare",
    "cifar10": "cifar cifar_10",
    "fashion_mnist": "fashion fmnist fashionmnist",
    "sotu": "speeches state_of_the_union",
    "image_classification": "classification image_classifier classify images pictures",
    "text_generation": "lm language_model causal_lm generation language_modeling",
    "savedmodel": "saved_model tf tensorflow pb keras h5 hdf5 tfserving pytorch torchscript",
    "litert": "tflite lite tf_lite tensorflow_lite",
    "onnx": "onnxruntime ort tensorrt trt",
    "validation": "val valid dev eval",
    "train": "training",
    "test": "testing holdout",
    "bayesian": "bayes bo gp tpe optuna smac",
    "hyperband": "asha halving sha",
    "random": "randomsearch random_search",
    "grid": "gridsearch grid_search",
    "latency": "speed time",
    "parameters": "params num_params",
    "size": "memory bytes",
    "characters": "char chars characters",
    "bytes": "bytes utf8",
}

# Commands.
COMMANDS = {
    "train": "fit run start learn finetune fine_tune pretrain resume",
    "evaluate": "eval test validate score benchmark",
    "predict": "infer inference generate classify sample complete chat",
    "plan": "estimate cost profile dry_run summary",
    "tune": "search sweep hpo hyperopt optimize optimise tuner",
    "export": "save convert freeze compile publish package",
    "serve": "deploy server api host",
    "launch": "torchrun accelerate distribute mpirun distributed",
}

# Options of the commands that take no settings.
OPTIONS = {
    "--length": "max_new_tokens max_tokens max_length num_tokens n_predict",
    "--step": "checkpoint ckpt epoch global_step weights",
    "--split": "subset dataset set partition",
    "--format": "to target type output_format",
    "--quantize": "int8 quant quantization quantise quantized",
    "--hardware": "gpu device accelerator machine instance",
    "--price": "cost hourly cost_per_hour",
    "--workers": "nproc_per_node num_processes nproc np num_workers",
    "--port": "rest_api_port http_port rest_port",
    "--grpc-port": "grpc rpc_port",
}


def meant(word: str, table: dict[str, str]) -> list[str]:
    """What a word stands for in one of the tables above, in the table's order."""
    plain = word.strip().lstrip("-").lower().replace("-", "_")
    return [target for target, words in table.items() if plain in words.split()]
