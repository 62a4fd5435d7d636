"""The core's own losses, miners, table readers, evaluators and FAISS, through the same hooks."""

from msiam.registry.hookspecs import hookimpl


@hookimpl
def msiam_losses(register):
    register(
        "contrastive",
        "msiam.losses.contrastive:Contrastive",
        summary="labelled pairs: pull the same together, push the rest apart (Hadsell 2006)",
    )
    register(
        "online_contrastive",
        "msiam.losses.online_contrastive:OnlineContrastive",
        summary="labelled pairs: contrastive on the hard ones alone (sentence-transformers, 2019)",
    )
    register(
        "batch_contrastive",
        "msiam.losses.batch_contrastive:BatchContrastive",
        summary="all pairs of a batch, by their groups: contrastive, linear memory (Hadsell 2006)",
    )
    register(
        "cosine_embedding",
        "msiam.losses.cosine_embedding:CosineEmbedding",
        summary="labelled pairs: the same to cosine 1, the rest below a margin (PyTorch)",
    )
    register(
        "cosent",
        "msiam.losses.cosent:CoSENT",
        summary="scores or labels: rank pairs as their scores do (CoSENT, 2022)",
    )
    register(
        "margin_mse",
        "msiam.losses.margin_mse:MarginMSE",
        summary="scores: a teacher's margin between positive and negative (Hofstätter 2020)",
    )
    register(
        "triplet",
        "msiam.losses.triplet:Triplet",
        summary="anchor nearer to positive than to negative by a margin (FaceNet, 2015)",
    )
    register(
        "quadruplet",
        "msiam.losses.quadruplet:Quadruplet",
        summary="triplet, and two negatives farther apart than any positive (Chen 2017)",
    )
    register(
        "tuple",
        "msiam.losses.tuple:NTuple",
        summary="softmax over a positive and any number of negatives (Sohn 2016)",
    )
    register(
        "matryoshka",
        "msiam.losses.matryoshka:Matryoshka",
        summary="another loss on embeddings cut to several widths (Kusupati 2022)",
    )
    register(
        "memory",
        "msiam.losses.memory:Memory",
        summary="another loss, with earlier batches' items as candidates (XBM, MoCo, 2020)",
    )
    register(
        "infonce",
        "msiam.losses.infonce:InfoNCE",
        summary="symmetric softmax over the batch, learnt temperature (CLIP, 2021)",
    )
    register(
        "sigmoid",
        "msiam.losses.sigmoid:Sigmoid",
        summary="yes or no for every pair of the batch, learnt scale and bias (SigLIP, 2023)",
    )
    register(
        "supcon",
        "msiam.losses.supcon:SupCon",
        summary="softmax over the batch with all of a group as positives (Khosla 2020)",
    )
    register(
        "multi_similarity",
        "msiam.losses.multi_similarity:MultiSimilarity",
        summary="groups: the hardest positives and negatives of the batch count most (Wang 2019)",
    )
    register(
        "circle",
        "msiam.losses.circle:Circle",
        summary="groups: each pair weighs by how far it is from where it should be (Sun 2020)",
    )
    register(
        "proxy_anchor",
        "msiam.losses.proxy_anchor:ProxyAnchor",
        summary="classes: a learnt proxy of each pulls and pushes the batch (Kim 2020)",
    )
    register(
        "arcface",
        "msiam.losses.arcface:ArcFace",
        summary="classes: softmax over angles, the own class's with a margin (Deng 2019)",
    )


@hookimpl
def msiam_miners(register):
    register("hard", "msiam.mining.batch:Hard", summary="the nearest item that does not belong")
    register("hardest_k", "msiam.mining.batch:HardestK", summary="the k nearest that do not belong")
    register(
        "semi_hard",
        "msiam.mining.batch:SemiHard",
        summary="the nearest that is farther than the positive (FaceNet, 2015)",
    )
    register(
        "distance_weighted",
        "msiam.mining.batch:DistanceWeighted",
        summary="one at random, such that all distances are alike likely (Wu 2017)",
    )
    register(
        "all",
        "msiam.mining.every:All",
        summary="every item that does not belong: batch-all, at linear memory (Hermans 2017)",
    )


@hookimpl
def msiam_sources(register):
    for name, suffixes in {
        "csv": (".csv", ".tsv"),
        "json": (".json", ".jsonl"),
        "parquet": (".parquet",),
        "imagefolder": (".zip",),
    }.items():
        register(name, f"msiam.data.sources:read_{name}", suffixes=suffixes)
    register(
        "emoji",
        "msiam.demo:read_emoji",
        suffixes=(".ttf",),
        summary="a colour font: its emoji as pictures, with their names in 14 languages",
        extra="demo",
    )


@hookimpl
def msiam_backends(register):
    register("faiss", "msiam.gallery.faiss_backend:FaissBackend", summary="exact search with FAISS")


@hookimpl
def msiam_evaluators(register):
    register(
        "verification",
        "msiam.evaluation.verification:Verification",
        summary="same or not: ROC AUC, equal error rate, accuracy, F1, TAR at FAR",
    )
    register(
        "retrieval",
        "msiam.evaluation.retrieval:Retrieval",
        summary="find the partner, or its class: recall@k, MRR, nDCG, MAP, MAP@R, median rank",
    )
    register(
        "correlation",
        "msiam.evaluation.correlation:Correlation",
        summary="scored rows: Spearman and Pearson of scores and similarities",
    )
    register(
        "adversarial",
        "msiam.evaluation.adversarial:Adversarial",
        summary="decisions under attack: FGSM and PGD on pictures, swaps on texts",
    )
    register(
        "few_shot",
        "msiam.evaluation.few_shot:FewShot",
        summary="N-way K-shot: accuracy over episodes, within a group and by another hand",
    )
    register(
        "knn",
        "msiam.evaluation.knn:KNN",
        summary="what an item is by its nearest neighbours, beside raw inputs and no training",
    )
