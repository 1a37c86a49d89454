"""The operations that a served model may use, and those refused, by name."""

from __future__ import annotations

REFUSED = {
    **dict.fromkeys(
        (
            "ReadFile",
            "MatchingFiles",
            "WholeFileReader",
            "WholeFileReaderV2",
            "FixedLengthRecordReaderV2",
        ),
        "reads files",
    ),
    **dict.fromkeys(
        (
            "TextLineReaderV2",
            "TFRecordReaderV2",
            "ReaderReadV2",
            "TextLineDataset",
            "TFRecordDataset",
        ),
        "reads files",
    ),
    **dict.fromkeys(
        (
            "InitializeTableFromTextFile",
            "InitializeTableFromTextFileV2",
            "Restore",
            "RestoreSlice",
            "RestoreV2",
        ),
        "reads files",
    ),
    **dict.fromkeys(
        ("LoadDataset", "SnapshotDatasetV2", "CacheDatasetV2", "FileSystemSetConfiguration"),
        "reads or writes files",
    ),
    **dict.fromkeys(
        (
            "WriteFile",
            "Save",
            "SaveSlices",
            "SaveV2",
            "MergeV2Checkpoints",
            "ShardedFilename",
            "SaveDatasetV2",
        ),
        "writes files",
    ),
    **dict.fromkeys(
        ("WriteSummary", "CreateSummaryFileWriter", "WriteGraphSummary", "DatasetToTFRecord"),
        "writes files",
    ),
    **dict.fromkeys(("Print", "PrintV2"), "prints, and can write files"),
    **dict.fromkeys(("PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunction"), "calls Python"),
    **dict.fromkeys(
        ("RemoteCall", "RpcCall", "RpcClient", "RpcServer", "DataServiceDatasetV4", "Send", "Recv"),
        "talks to other machines",
    ),
    **dict.fromkeys(
        ("DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNumericSummaryV2"),
        "writes files or talks to other machines",
    ),
}

# TensorFlow's core operations that only compute, by family.
ALLOWED = frozenset(
    """
    Abs Acos Acosh Add AddN AddV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh BesselI0e BesselI1e
    Betainc Bincount DenseBincount Bitcast BitwiseAnd BitwiseOr BitwiseXor Cast Ceil ClipByValue Complex ComplexAbs Conj Cos
    Cosh Cross Cumprod Cumsum CumulativeLogsumexp Digamma Div DivNoNan Einsum Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv
    FloorMod Greater GreaterEqual Igamma Igammac Imag Inv Invert IsFinite IsInf IsNan LeftShift Less LessEqual Lgamma LinSpace
    Log Log1p LogicalAnd LogicalNot LogicalOr Max Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual
    Polygamma Pow Prod Range Real RealDiv Reciprocal RightShift Rint Round Rsqrt SegmentMax SegmentMean SegmentMin SegmentSum
    Select SelectV2 Sigmoid Sign Sin Sinh Sqrt Square SquaredDifference Sub Sum Tan Tanh TruncateDiv TruncateMod
    UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentSum Xdivy Xlog1py Xlogy Zeta BatchMatMul BatchMatMulV2 BatchMatMulV3
    Cholesky MatMul MatrixBandPart MatrixDeterminant MatrixDiag MatrixDiagPartV3 MatrixDiagV3 MatrixInverse MatrixSetDiagV3
    MatrixSolve MatrixTriangularSolve Qr SelfAdjointEigV2 Svd BatchToSpaceND BroadcastArgs BroadcastTo CheckNumerics Concat
    ConcatOffset ConcatV2 Const DepthToSpace Diag DiagPart Empty EnsureShape ExpandDims ExtractImagePatches
    ExtractVolumePatches Fill Gather GatherNd GatherV2 Identity IdentityN InvertPermutation MirrorPad OneHot OnesLike Pack Pad
    PadV2 ParallelConcat Placeholder PlaceholderWithDefault PreventGradient QuantizeAndDequantizeV2 Rank Reshape
    ResourceGather ResourceGatherNd Reverse ReverseSequence ReverseV2 ScatterNd ScatterNdNonAliasingAdd LowerBound UpperBound
    Shape ShapeN Size Slice Snapshot SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice
    TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile Transpose Unique UniqueV2
    UniqueWithCounts Unpack UnravelIndex Where ZerosLike TopK TopKV2 InTopKV2 NthElement Roll Bucketize HistogramFixedWidth
    AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput Conv3D
    Conv3DBackpropInputV2 DepthwiseConv2dNative Dilation2D Elu FractionalAvgPool FusedBatchNorm FusedBatchNormV2
    FusedBatchNormV3 L2Loss LeakyRelu LogSoftmax LRN MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax Relu Relu6 Selu Softmax
    Softplus Softsign SoftmaxCrossEntropyWithLogits SparseSoftmaxCrossEntropyWithLogits CTCGreedyDecoder CTCBeamSearchDecoder
    CudnnRNNV3 GRUBlockCell LSTMBlockCell BlockLSTM BlockLSTMV2 UniformDequantize UniformQuantize Dequantize QuantizeV2
    FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel AdjustContrastv2 AdjustHue
    AdjustSaturation CombinedNonMaxSuppression CropAndResize DecodeAndCropJpeg DecodeBmp DecodeGif DecodeImage DecodeJpeg
    DecodePng DecodeWebP EncodeJpeg EncodePng ExtractGlimpseV2 ExtractJpegShape HSVToRGB ImageProjectiveTransformV2
    ImageProjectiveTransformV3 NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 ResizeArea ResizeBicubic
    ResizeBilinear ResizeNearestNeighbor RGBToHSV ScaleAndTranslate AudioSpectrogram DecodeWav EncodeWav Mfcc FFT FFT2D FFT3D
    IFFT IFFT2D IFFT3D IRFFT IRFFT2D RFFT RFFT2D AsString DecodeBase64 DecodeCompressed DecodeCSV DecodeJSONExample
    DecodePaddedRaw DecodeRaw EncodeBase64 ParseExample ParseExampleV2 ParseSequenceExampleV2 ParseSingleExample ParseTensor
    ReduceJoin RegexFullMatch RegexReplace SerializeTensor StaticRegexFullMatch StaticRegexReplace StringFormat StringJoin
    StringLength StringLower StringNGrams StringSplit StringSplitV2 StringStrip StringToHashBucket StringToHashBucketFast
    StringToHashBucketStrong StringToNumber StringUpper Substr UnicodeDecode UnicodeDecodeWithOffsets UnicodeEncode
    UnicodeScript UnicodeTranscode UnsortedSegmentJoin RaggedBincount RaggedCross RaggedGather RaggedRange
    RaggedTensorFromVariant RaggedTensorToSparse RaggedTensorToTensor RaggedTensorToVariant SparseConcat SparseCross
    SparseFillEmptyRows SparseReorder SparseReshape SparseSegmentMean SparseSegmentSum SparseSegmentSqrtN SparseSlice
    SparseTensorDenseMatMul SparseToDense EmptyTensorList TensorListConcatV2 TensorListElementShape TensorListFromTensor
    TensorListGather TensorListGetItem TensorListLength TensorListPopBack TensorListPushBack TensorListReserve
    TensorListResize TensorListScatterV2 TensorListSetItem TensorListSplit TensorListStack TensorArrayV3 TensorArrayCloseV3
    TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3 TensorArraySplitV3
    TensorArrayWriteV3 Assert Case Enter Exit If LoopCond Merge NextIteration NoOp PartitionedCall StatefulPartitionedCall
    StatelessCase StatelessIf StatelessWhile Switch While ControlTrigger DisableCopyOnRead Assign AssignVariableOp
    AssignAddVariableOp DestroyResourceOp IsVariableInitialized ReadVariableOp VarHandleOp VarIsInitializedOp Variable
    VariableV2 VariableShape HashTable HashTableV2 InitializeTable InitializeTableV2 LookupTableExportV2 LookupTableFind
    LookupTableFindV2 LookupTableImportV2 LookupTableSize LookupTableSizeV2 MutableHashTableV2 Multinomial RandomShuffle
    RandomStandardNormal RandomUniform RandomUniformInt StatelessMultinomial StatelessParameterizedTruncatedNormal
    StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomNormal StatelessRandomNormalV2 StatelessRandomUniform
    StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
    StatelessRandomUniformV2 StatelessTruncatedNormalV2 StatelessShuffle RandomIndexShuffle
    """.split()  # noqa: SIM905 - a page of names reads better without quotes
)
PICTURE_DECODERS = frozenset(
    (
        "DecodeAndCropJpeg",
        "DecodeBmp",
        "DecodeGif",
        "DecodeImage",
        "DecodeJpeg",
        "DecodePng",
        "DecodeWebP",
    )
)
EXAMPLE_PARSERS = frozenset(("ParseExample", "ParseExampleV2", "ParseSingleExample"))
SEQUENCE_PARSERS = frozenset(("ParseSequenceExampleV2",))
LOOPS = frozenset(("While", "StatelessWhile", "LoopCond", "Loop", "Scan"))
SAVE = frozenset(("SaveV2", "MergeV2Checkpoints", "ShardedFilename"))
# Loaders run the restore operation by themselves: it may fill variables and tables, nothing else.
RESTORE = frozenset(
    (
        "AssignVariableOp",
        "Const",
        "Identity",
        "LookupTableImportV2",
        "NoOp",
        "PartitionedCall",
        "Placeholder",
        "StatefulPartitionedCall",
    )
)


def refusal(op: str) -> str:
    """Why an operation is refused, in words."""
    if op in REFUSED:
        return f"operation {op} {REFUSED[op]}"
    return f"operation {op} is not among those that a served model may use"
